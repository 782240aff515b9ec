//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gommu/iommu/trace"
	"gommu/iommu/vtd"
)

func TestHistogram(t *testing.T) {
	var slots [trace.Slots]uint64
	slots[0], slots[2], slots[3] = 1, 2, 4
	want := `     nsecs               : count     distribution
         0 -> 1          : 1        |**********                              |
         2 -> 3          : 0        |                                        |
         4 -> 7          : 2        |********************                    |
         8 -> 15         : 4        |****************************************|
`
	if got := histogram(slots); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	slots[trace.Slots-1] = 4
	for line := range strings.Lines(histogram(slots)) {
		if len(line) > 120 || strings.Index(line, ":") != 45 {
			t.Errorf("%q", line)
		}
	}
}

func TestSlowest(t *testing.T) {
	s := &slowest{}
	for i := range 100 {
		s.add(trace.Event{Operation: trace.Map, Time: time.Duration(i * 37 % 100), Stack: []uint64{uint64(i / 4)}})
	}
	if len(s.list) != mostSlow {
		t.Fatalf("%d", len(s.list))
	}
	seen := map[uint64]bool{}
	for i, e := range s.list {
		if i > 0 && e.Time > s.list[i-1].Time || seen[e.Stack[0]] {
			t.Errorf("%+v", s.list)
		}
		seen[e.Stack[0]] = true
	}
	if s.list[0].Time != 99 {
		t.Errorf("the slowest is %v", s.list[0].Time)
	}
}

// victim starts the program that package trace's tests trace.
func victim(t *testing.T) (v *exec.Cmd, in io.Writer, out *bufio.Scanner) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "victim")
	if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, "../../iommu/trace/testdata/victim").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	v = exec.Command(path)
	w, err := v.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Process.Kill(); _ = v.Wait() })
	return v, w, bufio.NewScanner(r)
}

// tracer is the command, tracing.
type tracer struct {
	*exec.Cmd
	stdout strings.Builder
	notes  *bufio.Scanner
}

// traceCommand is the command with arguments. The test binary is it if it is called so, see TestMain.
func traceCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe") // which nobody may run too
	cmd.Args = append([]string{"gommu", "trace"}, args...)
	return cmd
}

// startTrace starts the command and waits until it has attached.
func startTrace(t *testing.T, args ...string) *tracer {
	t.Helper()
	c := &tracer{Cmd: traceCommand(t, args...)}
	c.Stdout = &c.stdout
	notes, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	c.notes = bufio.NewScanner(notes)
	if !c.notes.Scan() || !strings.HasPrefix(c.notes.Text(), "Tracing") {
		t.Fatalf("%q", c.notes.Text())
	}
	return c
}

// interrupt ends the command as Ctrl-C does.
func (c *tracer) interrupt(t *testing.T) (output string) {
	t.Helper()
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("the command: %v", err)
	}
	return c.stdout.String()
}

// traced is a victim that can be traced here. After what work is told it has done it, and says which probes are on.
func traced(t *testing.T) (v *exec.Cmd, work func(what string) (answer string)) {
	t.Helper()
	v, in, out := victim(t)
	probe, err := trace.Open(trace.Options{PID: v.Process.Pid})
	if (errors.Is(err, trace.ErrPermission) || errors.Is(err, trace.ErrKernel)) && os.Getenv("CI") == "" {
		t.Skipf("this machine does not let programs be traced: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	return v, func(what string) string {
		t.Helper()
		if _, err := io.WriteString(in, what+"\n"); err != nil || !out.Scan() {
			t.Fatalf("the victim: %v", err)
		}
		return out.Text()
	}
}

func wantAll(t *testing.T, text string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
}

// TestTraceText traces a program and reads what people read.
func TestTraceText(t *testing.T) {
	v, work := traced(t)
	c := startTrace(t, "--binary", v.Path, "--by", "device,size,result,process", "--slower", "990ns")
	work("calls 1000")
	out := c.interrupt(t)
	wantAll(t, out,
		"operation = map, device = 00:02.0, size = 4.0 KiB -> 8.0 KiB, result = done, process = ", " victim\n",
		"operation = unmap, device = 00:03.0, size = 8.0 KiB -> 16.0 KiB, ", "nsecs",
		"operation = fault, device = 00:02.0, result = "+vtd.Reason(5).String()+", process = ",
		"Total of", "slow: unmap took 1.998µs, process ", "device 00:03.0, domain 2, 32.0 KiB, IOVA 0x3e7000, bidirectional\n    main.call ",
		"p99", "lost: 0 calls, 0 events")
	if n := strings.Count(out, "operation = map"); n != 4 { // sizes and devices go together
		t.Errorf("%d histograms of map, want 4:\n%s", n, out)
	}
}

// TestTraceJSON traces it and reads what programs read, of one device only.
func TestTraceJSON(t *testing.T) {
	v, work := traced(t)
	c := startTrace(t, "--pid", fmt.Sprint(v.Process.Pid), "--json", "--device", "0000:00:02.0")
	work("calls 1000")
	out := c.interrupt(t)
	var s struct {
		Total    bool
		Commands map[uint32]string
		Tallies  []struct {
			Operation, Source string
			Process           uint32
			Count             uint64
			Slots             []uint64
		}
		Lost trace.Lost
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	counts := map[string]uint64{}
	for _, l := range s.Tallies {
		counts[l.Operation+" "+l.Source] += l.Count
		if s.Commands[l.Process] != "victim" {
			t.Errorf("process %d is called %q", l.Process, s.Commands[l.Process])
		}
	}
	if want := map[string]uint64{"map 00:02.0": 500, "unmap 00:02.0": 500, "fault 00:02.0": 10}; !maps.Equal(counts, want) {
		t.Errorf("%v, want %v", counts, want)
	}
	if !s.Total || s.Lost != (trace.Lost{}) {
		t.Errorf("%s", out)
	}
}

func TestTraceWanted(t *testing.T) {
	all, one := &tracing{}, &tracing{only: map[trace.Source]bool{0x18: true}}
	for s, want := range map[trace.Source]bool{0x18: true, 0x20: false, trace.Several: false} {
		if !all.wanted(s) || one.wanted(s) != want {
			t.Errorf("%v: without a filter %v, with %v", s, all.wanted(s), one.wanted(s))
		}
	}
}

// TestTraceIntervals wants as many as it asks for, and the end after them, and at --duration.
func TestTraceIntervals(t *testing.T) {
	v, work := traced(t)
	c := startTrace(t, "--pid", fmt.Sprint(v.Process.Pid), "--json", "0.1", "3")
	work("calls 100")
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSpace(c.stdout.String()), "\n")
	sum := uint64(0)
	for i, line := range lines {
		var s struct {
			Total   bool
			Tallies []struct{ Count uint64 }
		}
		if err := json.Unmarshal([]byte(line), &s); err != nil || s.Total != (i == 3) {
			t.Errorf("line %d: %v: %s", i, err, line)
		}
		for _, l := range s.Tallies {
			sum += l.Count
		}
	}
	if len(lines) != 4 || sum != 2*201 {
		t.Errorf("%d lines, %d calls; want 4, in which each of 201 is twice", len(lines), sum)
	}
	c = startTrace(t, "--binary", v.Path, "--duration", "200ms")
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	wantAll(t, c.stdout.String(), "Total of")
	c = startTrace(t, "--pid", fmt.Sprint(v.Process.Pid))
	_ = v.Process.Kill()
	_ = v.Wait()
	if err := c.Wait(); err != nil {
		t.Errorf("after the end of the process: %v", err)
	}
}

// TestTraceLive reads frames, which to what is no terminal come one below the other.
func TestTraceLive(t *testing.T) {
	v, work := traced(t)
	c := startTrace(t, "--pid", fmt.Sprint(v.Process.Pid), "--live", "0.3", "2")
	work("calls 1000")
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	out := c.stdout.String()
	wantAll(t, out, "the last ", "calls/s", "unmap ", " victim ", "nsecs", "Total of")
	if n := strings.Count(out, "the last "); n != 2 || strings.Contains(out, "\x1b") {
		t.Errorf("%d frames, want 2, and no escapes:\n%q", n, out)
	}
}

// TestTraceMetrics asks as Prometheus does.
func TestTraceMetrics(t *testing.T) {
	v, work := traced(t)
	c := startTrace(t, "--pid", fmt.Sprint(v.Process.Pid), "--listen", "127.0.0.1:0")
	if !c.notes.Scan() {
		t.Fatal("no address")
	}
	work("calls 1000")
	address := c.notes.Text()[strings.Index(c.notes.Text(), "http"):]
	r, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", r.Status, err, body)
	}
	// Of the 500 maps of a device, which took 0, 2, 4... ns, 64 took at most 127 ns, and 256 at most 511.
	labels := `{device="00:02.0",operation="map",pool="",result="done"`
	wantAll(t, string(body),
		"# TYPE gommu_trace_duration_seconds histogram",
		"gommu_trace_duration_seconds_bucket"+labels+`,le="1.27e-07"} 64`,
		"gommu_trace_duration_seconds_bucket"+labels+`,le="5.11e-07"} 256`,
		"gommu_trace_duration_seconds_bucket"+labels+`,le="+Inf"} 500`,
		"gommu_trace_duration_seconds_count"+labels+"} 500",
		"gommu_trace_duration_seconds_sum"+labels+"} 0.0002495",
		"gommu_trace_bytes_total"+labels+"} 5.12e+06",
		`gommu_trace_calls_total{device="00:02.0",operation="fault",pool="",result="`+vtd.Reason(5).String()+`"} 10`,
		`gommu_trace_lost_total{what="events"} 0`,
		"gommu_trace_sample 1",
	)
	c.interrupt(t)
	if _, err := http.Get(address); err == nil {
		t.Error("it still answers")
	}
}

// TestTraceKilled kills the command: the program that it traced is not traced any more.
func TestTraceKilled(t *testing.T) {
	v, work := traced(t)
	c := startTrace(t, "--binary", v.Path, "--sample", "1/2")
	if on := work("on"); on == "on 0" {
		t.Error("nothing is traced")
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	for end := time.Now().Add(10 * time.Second); work("on") != "on 0"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still %s", work("on"))
		}
	}
}

// TestTraceFaults reads them as they come, while the command runs.
func TestTraceFaults(t *testing.T) {
	v, work := traced(t)
	for _, asJSON := range []bool{false, true} {
		cmd := traceCommand(t, "faults", "--pid", fmt.Sprint(v.Process.Pid), "-d", "00:02.0", fmt.Sprintf("--json=%v", asJSON))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		notes, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := bufio.NewScanner(notes)
		if !said.Scan() {
			t.Fatal("it has ended")
		}
		work("calls 101")
		lines := bufio.NewScanner(out)
		for i := range 2 {
			if !lines.Scan() {
				t.Fatalf("%d faults, want 2", i)
			}
			wantAll(t, lines.Text(), fmt.Sprintf("write of iova %#x by 00:02.0 PASID 0x7: %v (0x05); domain 1 of process %d", i*100<<12, vtd.Reason(5), v.Process.Pid))
			if asJSON != json.Valid(lines.Bytes()) {
				t.Errorf("%s", lines.Text())
			}
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		for said.Scan() {
			wantAll(t, said.Text(), "2 faults, 0 lost")
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// TestTraceRefused wants one clear line and an exit code.
func TestTraceRefused(t *testing.T) {
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	for _, c := range []struct {
		name string
		args string
		as   *syscall.SysProcAttr
		want []string
	}{
		{"nothing", "", nil, []string{"--pid, --binary or --kernel"}},
		{"rate", "--kernel --sample 2/3", nil, []string{"1/16"}},
		{"odd rate", "--kernel --sample 1/3", nil, []string{"power of 2"}},
		{"interval", "--kernel soon", nil, []string{"give seconds"}},
		{"count", "--kernel 1 0", nil, []string{"at least 1"}},
		{"groups", "--kernel --by colour", nil, []string{"device, size, result, process"}},
		{"device", "--kernel --device eth0", nil, []string{"eth0", "0000:00:03.0"}},
		{"address", "--kernel --listen nowhere:nothing", nil, []string{"--listen"}},
		{"live and JSON", "--kernel --live --json", nil, []string{"live", "json"}},
		{"no process", "--pid 2147483646", nil, []string{"no such process"}},
		{"no program", "--binary /nowhere", nil, []string{"/nowhere"}},
		{"without rights", "--kernel", nobody, []string{"not permitted", "CAP_BPF", "root"}},
		{"without rights, a program", "--binary /proc/self/exe", nobody, []string{"not permitted", "CAP_BPF", "root"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.as != nil && os.Geteuid() != 0 {
				t.Skip("it takes root to become nobody")
			}
			cmd := traceCommand(t, strings.Fields(c.args)...)
			cmd.SysProcAttr = c.as
			refuses(t, cmd, c.want...)
		})
	}
}

// refuses wants the command to fail and to say why in one line.
func refuses(t *testing.T, cmd *exec.Cmd, wanted ...string) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() <= 0 {
		t.Errorf("%v, want an exit code other than 0", err)
	}
	if strings.Count(string(out), "\n") != 1 {
		t.Errorf("not one line: %s", out)
	}
	wantAll(t, string(out), wanted...)
}

// TestTraceWithoutBTF hides the kernel's types from the command.
func TestTraceWithoutBTF(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it takes root to hide /sys/kernel/btf")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// $0 is what the test binary is called.
	hide := exec.Command("unshare", "--mount", "bash", "-c", `mount -t tmpfs none /sys/kernel/btf && exec -a gommu "$0" trace --kernel`, exe)
	refuses(t, hide, "no BTF", "CONFIG_DEBUG_INFO_BTF")
}
