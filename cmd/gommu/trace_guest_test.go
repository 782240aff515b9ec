//go:build linux

package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"gommu/qemu-tests/vm/guest"
)

// TestGuestTraceFaults prints the faults that the kernel takes from the unit while the demonstration has its device reach for what is
// not mapped.
func TestGuestTraceFaults(t *testing.T) {
	guest.SkipUnlessInside(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestGuestCommand$")
	cmd.Env = append(os.Environ(), "GOMMU_ARGS=trace faults --kernel --device "+ownGroup)
	var out strings.Builder
	cmd.Stdout = &out
	notes, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	said := bufio.NewScanner(notes)
	if !said.Scan() || !strings.HasPrefix(said.Text(), "Tracing") {
		t.Fatalf("%q", said.Text())
	}
	r := &report{Rung: "vfio"}
	r.finish(demoVFIO(t.Context(), demoOptions{device: ownGroup}, r))
	checkReport(t, r)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	last := ""
	for said.Scan() {
		last = said.Text()
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%s%s", out.String(), last)
	for _, want := range []string{"write of iova 0x", " by 00:03.0: ", "; device 00:03.0, taken by the kernel"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q", want)
		}
	}
	if !strings.HasSuffix(last, " faults, 0 lost") {
		t.Errorf("it ends with %q", last)
	}
}
