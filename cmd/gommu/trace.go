//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf/rlimit"
	"github.com/spf13/cobra"

	"gommu/iommu/trace"
	"gommu/pci"
)

// A tracing is what `gommu trace` was asked for.
type tracing struct {
	opts     trace.Options
	sample   string
	duration time.Duration
	interval time.Duration // 0: only at the end
	count    int           // of intervals; 0: no limit
	asJSON   bool
	live     bool
	listen   string
	by       []string
	group    grouping
	devices  []string
	only     map[trace.Source]bool // empty: all
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

A call that is seen costs its caller about a microsecond: --sample 1/16 lets the other 15 of 16 go without.
It needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN.`,
		Example: `  gommu trace --pid 4711 --by device           a histogram for each operation and device, at Ctrl-C
  gommu trace --binary ./driver 1 10           ten of them, one a second
  gommu trace --kernel --live                  who maps most, as it happens
  gommu trace --kernel --by size --json        for other programs
  gommu trace --pid 4711 --slower 10us         with the stacks of the slowest calls
  gommu trace --kernel --listen :9464          for Prometheus, under /metrics
  gommu trace faults --kernel                  faults as they come`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.parse(args); err != nil {
				return err
			}
			return r.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	r.flags(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&r.by, "by", nil, "one histogram for each of these, one or more of device (or pool), size, result, process")
	f.DurationVar(&r.opts.SlowerThan, "slower", 0, "list the slowest calls that took at least that long, with their stacks")
	f.BoolVarP(&r.live, "live", "l", false, "show who calls most, anew each interval (without one each second)")
	f.StringVar(&r.listen, "listen", "", "serve the histograms to Prometheus there, under /metrics, as :9464")
	cmd.MarkFlagsMutuallyExclusive("live", "json")
	cmd.AddCommand(newTraceFaults())
	return cmd
}

// flags are those of trace and of trace faults.
func (r *tracing) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVarP(&r.opts.PID, "pid", "p", 0, "a running process")
	f.StringVar(&r.opts.Binary, "binary", "", "the file of a program: all its processes, those that start later too")
	f.BoolVar(&r.opts.Kernel, "kernel", false, "the kernel's IOMMU functions and events and VFIO's calls; with --pid only for that process")
	f.StringSliceVarP(&r.devices, "device", "d", nil, "only what is for these devices, as 00:03.0")
	f.StringVar(&r.sample, "sample", "1/1", "see one in so many of a program's calls, at random: 1/N, N a power of 2")
	f.DurationVar(&r.duration, "duration", 0, "end after that time")
	f.BoolVarP(&r.asJSON, "json", "j", false, "print JSON, one object a line")
}

// parse reads the arguments interval and count, and what flags are made of.
func (r *tracing) parse(args []string) (err error) {
	if r.opts.PID == 0 && r.opts.Binary == "" && !r.opts.Kernel {
		return errors.New("nothing to trace: give --pid, --binary or --kernel")
	}
	if r.opts.Sample, err = parseSample(r.sample); err != nil {
		return err
	}
	if r.group, err = parseGrouping(r.by); err != nil {
		return err
	}
	r.only = map[trace.Source]bool{}
	for _, d := range r.devices {
		a, err := pci.ParseAddress(d)
		if err != nil {
			return fmt.Errorf("--device: %w", err)
		}
		r.only[trace.SourceOf(a)] = true
	}
	if r.live {
		r.interval = time.Second
	}
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

func parseSample(text string) (int, error) {
	one, n, ok := strings.Cut(text, "/")
	if !ok {
		one, n = "1", text
	}
	sample, err := strconv.Atoi(n)
	if one != "1" || err != nil || sample < 1 {
		return 0, fmt.Errorf("--sample %s: it is 1/N, as 1/16", text)
	}
	return sample, nil
}

// A session is an open tracer and for how long it is wanted.
type session struct {
	*trace.Tracer
	ctx    context.Context
	cancel context.CancelFunc
}

// open attaches and says so.
func (r *tracing) open(ctx context.Context, notes io.Writer) (*session, error) {
	_ = rlimit.RemoveMemlock() // of old kernels; where it matters and fails Open says so
	t, err := trace.Open(r.opts)
	if err != nil {
		return nil, err
	}
	s := &session{Tracer: t}
	if r.duration > 0 {
		s.ctx, s.cancel = context.WithTimeout(ctx, r.duration)
	} else {
		s.ctx, s.cancel = context.WithCancel(ctx)
	}
	fmt.Fprintln(notes, "Tracing. Ctrl-C ends it.")
	if s, err := t.Snapshot(); err == nil {
		for _, m := range s.Missing {
			fmt.Fprintf(notes, "not traced: %s: %s\n", m.Name, m.Why)
		}
	}
	if r.opts.PID != 0 {
		go awaitEnd(s.ctx, r.opts.PID, s.cancel)
	}
	return s, nil
}

// Close ends it.
func (s *session) Close() error {
	s.cancel()
	return s.Tracer.Close()
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
	var l net.Listener
	if r.listen != "" {
		if l, err = net.Listen("tcp", r.listen); err != nil {
			return fmt.Errorf("--listen: %w", err)
		}
		defer l.Close()
	}
	t, err := r.open(ctx, notes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if l != nil {
		fmt.Fprintf(notes, "Metrics are at http://%v/metrics\n", l.Addr())
		defer r.serve(l, t)()
	}
	slow := &slowest{wanted: r.wanted}
	read := make(chan error, 1)
	go func() { read <- slow.read(t.ctx, t.Tracer) }()
	shown, err := r.intervals(w, t)
	if err != nil {
		return err
	}
	t.cancel()
	if err := <-read; err != nil {
		return err
	}
	s, err := r.snapshot(t.Tracer)
	if err != nil {
		return err
	}
	if r.asJSON {
		return printJSON(w, s, slow.list)
	}
	return r.totals(w, s, shown, slow.list)
}

// wanted says whether what is for a device shall be shown. Pools are for none.
func (r *tracing) wanted(s trace.Source) bool { return len(r.only) == 0 || r.only[s] }

// snapshot is one of what is wanted.
func (r *tracing) snapshot(t *trace.Tracer) (trace.Snapshot, error) {
	s, err := t.Snapshot()
	if err != nil {
		return s, err
	}
	all := s.Tallies
	s.Tallies = nil
	for _, l := range all {
		if r.wanted(l.Source) {
			s.Tallies = append(s.Tallies, l)
		}
	}
	return s, nil
}

// intervals prints each interval until the session or their count ends, and returns whether it printed any histograms.
func (r *tracing) intervals(w io.Writer, t *session) (any bool, err error) {
	if r.interval == 0 {
		<-t.ctx.Done()
		return false, nil
	}
	tick := time.NewTicker(r.interval)
	defer tick.Stop()
	before, err := r.snapshot(t.Tracer)
	if err != nil {
		return false, err
	}
	before.At, before.Tallies = before.Opened, nil // the first interval has what there was before it
	for n := 0; r.count == 0 || n < r.count; n++ {
		select {
		case <-t.ctx.Done():
			return !r.live, nil
		case <-tick.C:
		}
		s, err := r.snapshot(t.Tracer)
		if err != nil {
			return true, err
		}
		if err := r.interim(w, s.Since(before), s.At.Sub(before.At)); err != nil {
			return true, err
		}
		before = s
	}
	return !r.live, nil
}

// interim prints what happened in an interval.
func (r *tracing) interim(w io.Writer, s trace.Snapshot, during time.Duration) error {
	switch {
	case r.asJSON:
		return json.NewEncoder(w).Encode(s)
	case r.live:
		return frame(w, s, during)
	}
	if _, err := fmt.Fprintf(w, "%s\n", s.At.Format(time.TimeOnly)); err != nil {
		return err
	}
	return r.histograms(w, s)
}

// printJSON is the end: the totals of it all.
func printJSON(w io.Writer, s trace.Snapshot, slow []slowCall) error {
	return json.NewEncoder(w).Encode(struct {
		trace.Snapshot
		Total bool       `json:"total"`
		Slow  []slowCall `json:"slowest,omitempty"`
	}{s, true, slow})
}
