//go:build linux && (amd64 || arm64)

package trace

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// otherModule builds a stripped program of another module, position-independent if pie.
func otherModule(t *testing.T, pie bool) string {
	t.Helper()
	dir := t.TempDir()
	source, err := os.ReadFile("testdata/other/main.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	mod := "module example.org/other\n\ngo 1.26.0\n\nrequire gommu v0.0.0\n\nreplace gommu => " + root + "\n"
	for name, text := range map[string]string{"main.go": string(source), "go.mod": mod, "go.sum": string(sums)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"build", "-mod=mod", "-ldflags", "-s -w", "-o", "other"}
	if pie {
		args = append(args, "-buildmode=pie")
	}
	build := exec.Command("go", args...)
	build.Dir, build.Env = dir, append(os.Environ(), "GOPROXY=off", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, "other")
}

// TestOtherModule traces a program that only imports the library.
func TestOtherModule(t *testing.T) {
	for name, pie := range map[string]bool{"plain": false, "position-independent": true} {
		t.Run(name, func(t *testing.T) {
			path := otherModule(t, pie)
			tr := opened(t, Options{Binary: path})
			v := start(t, path)
			const rounds = 100
			for range rounds {
				if got := v.tell(t, "round"); got != 5 {
					t.Fatalf("the pool of 5 gave %d", got)
				}
			}
			v.end(t)
			s := snapshot(t, tr)
			for _, o := range []Operation{Map, Unmap} {
				if l := s.Of(o); l.Count != rounds || l.Size != 1500*rounds || l.Time == 0 {
					t.Errorf("%v: %+v, want %d of 1500 bytes", o, l, rounds)
				}
				if n := s.Total(func(l Tally) bool { return l.Operation == o && l.Source == 0x18 }).Count; n != rounds {
					t.Errorf("%d %v of the device, want %d", n, o, rounds)
				}
			}
			pools := map[uint64]uint64{}
			last := uint64(0)
			for _, l := range s.Tallies {
				if l.Operation.OfPool() {
					pools[l.Pool]++
					last = max(last, l.Pool)
				}
			}
			of := func(o Operation) Tally { // of the rounds' pools: the domain's were there before
				return s.Total(func(l Tally) bool { return l.Operation == o && l.Pool > last-rounds })
			}
			if n := of(PoolEmpty).Count; n != rounds {
				t.Errorf("%d refused gets, want %d", n, rounds)
			}
			// What the worker did in between is none of the test's business, but what was got was given back.
			grown, shrunk := of(PoolGrow), of(PoolShrink)
			if grown.Items != 5*rounds || shrunk.Items != grown.Items || grown.Count < rounds || shrunk.Count < rounds {
				t.Errorf("grown %+v, shrunk %+v", grown, shrunk)
			}
			for p := last - rounds + 1; p <= last; p++ {
				if pools[p] < 3 {
					t.Errorf("pool %d has %d tallies", p, pools[p])
				}
			}
		})
	}
}
