//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf/rlimit"
	"github.com/spf13/cobra"

	"gommu/iommu/trace"
)

// A tracing is what `gommu trace` was asked for.
type tracing struct {
	opts     trace.Options
	sample   string
	duration time.Duration
	interval time.Duration // 0: only at the end
	count    int           // of intervals; 0: no limit
	asJSON   bool
	devices  bool
	results  bool
}

func newTrace() *cobra.Command {
	r := &tracing{}
	cmd := &cobra.Command{
		Use:   "trace [flags] [interval [count]]",
		Short: "Show how often and how long programs and the kernel map and unmap, as histograms",
		Long: `Trace counts the calls of programs that use this library (--pid, --binary) and of the kernel (--kernel)
and prints histograms of how long they took: at the end, which is Ctrl-C, --duration, or the end of the process, or each
interval (seconds), count times. Counting is done in the kernel. Nothing has to be told to the
programs, which may be stripped, and with --binary may start later.

A call that is seen costs its caller some microseconds: --sample 1/16 lets the other 15 of 16 go without.
It needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.parse(args); err != nil {
				return err
			}
			return r.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	r.flags(cmd)
	cmd.Flags().BoolVar(&r.devices, "devices", false, "one histogram a device (or pool)")
	cmd.Flags().BoolVar(&r.results, "results", false, "one histogram a result")
	cmd.Flags().DurationVar(&r.opts.SlowerThan, "slower", 0, "list the slowest calls that took at least that long, with their stacks")
	cmd.AddCommand(newTraceFaults())
	return cmd
}

// flags are those of trace and of trace faults.
func (r *tracing) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVarP(&r.opts.PID, "pid", "p", 0, "a running process")
	f.StringVar(&r.opts.Binary, "binary", "", "the file of a program: all its processes, those that start later too")
	f.BoolVar(&r.opts.Kernel, "kernel", false, "the kernel's IOMMU functions and events and VFIO's calls; with --pid only for that process")
	f.StringVar(&r.sample, "sample", "1/1", "see one in so many of a program's calls, at random: 1/N, N a power of 2")
	f.DurationVar(&r.duration, "duration", 0, "end after that time")
	f.BoolVarP(&r.asJSON, "json", "j", false, "print JSON, one object a line")
}

// parse reads the arguments interval and count, and the rate.
func (r *tracing) parse(args []string) error {
	if r.opts.PID == 0 && r.opts.Binary == "" && !r.opts.Kernel {
		return errors.New("nothing to trace: give --pid, --binary or --kernel")
	}
	one, n, ok := strings.Cut(r.sample, "/")
	if !ok {
		one, n = "1", r.sample
	}
	sample, err := strconv.Atoi(n)
	if one != "1" || err != nil || sample < 1 {
		return fmt.Errorf("--sample %s: it is 1/N, as 1/16", r.sample)
	}
	r.opts.Sample = sample
	if len(args) > 0 {
		seconds, err := strconv.ParseFloat(args[0], 64)
		if err != nil || !(seconds >= 0.001 && seconds <= 1e9) {
			return fmt.Errorf("interval %q: give seconds, as 1 or 0.5", args[0])
		}
		r.interval = time.Duration(seconds * float64(time.Second))
	}
	if len(args) > 1 {
		if r.count, err = strconv.Atoi(args[1]); err != nil || r.count < 1 {
			return fmt.Errorf("count %q: give a number of at least 1", args[1])
		}
	}
	return nil
}

// open attaches and says so.
func (r *tracing) open(ctx context.Context, notes io.Writer) (*trace.Tracer, context.Context, context.CancelFunc, error) {
	_ = rlimit.RemoveMemlock() // of old kernels; where it matters and fails Open says so
	t, err := trace.Open(r.opts)
	if err != nil {
		return nil, nil, nil, err
	}
	fmt.Fprintln(notes, "Tracing. Ctrl-C ends it.")
	if s, err := t.Snapshot(); err == nil {
		for _, m := range s.Missing {
			fmt.Fprintf(notes, "not traced: %s: %s\n", m.Name, m.Why)
		}
	}
	var cancel context.CancelFunc
	if r.duration > 0 {
		ctx, cancel = context.WithTimeout(ctx, r.duration)
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	if r.opts.PID != 0 {
		go awaitEnd(ctx, r.opts.PID, cancel)
	}
	return t, ctx, cancel, nil
}

// awaitEnd calls ended when a process has ended, or ctx.
func awaitEnd(ctx context.Context, pid int, ended func()) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if alive(pid) {
				continue
			}
			ended()
			return
		}
	}
}

// alive says whether a process runs; a zombie does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func (r *tracing) run(ctx context.Context, w, notes io.Writer) (err error) {
	t, ctx, cancel, err := r.open(ctx, notes)
	if err != nil {
		return err
	}
	defer cancel()
	defer func() { err = errors.Join(err, t.Close()) }()
	slow := &slowest{}
	read := make(chan error, 1)
	go func() { read <- slow.read(ctx, t) }()
	last, err := r.intervals(ctx, w, t)
	if err != nil {
		return err
	}
	cancel()
	if err := <-read; err != nil {
		return err
	}
	s, err := t.Snapshot()
	if err != nil {
		return err
	}
	if r.asJSON {
		return r.json(w, s, last, slow.list)
	}
	return r.totals(w, s, last, slow.list)
}

// intervals prints each interval until ctx or their count ends, and returns whether it printed any.
func (r *tracing) intervals(ctx context.Context, w io.Writer, t *trace.Tracer) (any bool, err error) {
	if r.interval == 0 {
		<-ctx.Done()
		return false, nil
	}
	tick := time.NewTicker(r.interval)
	defer tick.Stop()
	var before trace.Snapshot
	for n := 0; r.count == 0 || n < r.count; n++ {
		select {
		case <-ctx.Done():
			return true, nil
		case <-tick.C:
		}
		s, err := t.Snapshot()
		if err != nil {
			return true, err
		}
		d := s.Since(before)
		before = s
		if r.asJSON {
			err = json.NewEncoder(w).Encode(d)
		} else {
			fmt.Fprintf(w, "%s\n", s.At.Format(time.TimeOnly))
			err = r.histograms(w, d)
		}
		if err != nil {
			return true, err
		}
	}
	return true, nil
}

// json is the end: the totals of it all.
func (r *tracing) json(w io.Writer, s trace.Snapshot, _ bool, slow []trace.Event) error {
	return json.NewEncoder(w).Encode(struct {
		trace.Snapshot
		Total bool          `json:"total"`
		Slow  []trace.Event `json:"slowest,omitempty"`
	}{s, true, slow})
}
