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
	mod := "module example.org/other\n\ngo 1.26.0\n\nrequire gommu v0.0.0\n\nreplace gommu => " + root + "\n"
	for name, text := range map[string]string{"main.go": string(source), "go.mod": mod} {
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

// TestOtherModule traces a program that only imports the library, and only its pool.
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
			if n := s.Of(PoolEmpty).Count; n != rounds {
				t.Errorf("%d refused gets, want %d", n, rounds)
			}
			// What the worker did in between is none of the test's business, but what was got was given back.
			grown, shrunk := s.Of(PoolGrow), s.Of(PoolShrink)
			if grown.Items != 5*rounds || shrunk.Items != grown.Items || grown.Count < rounds || shrunk.Count < rounds {
				t.Errorf("grown %+v, shrunk %+v", grown, shrunk)
			}
			pools := map[Source]bool{}
			for _, l := range s.Tallies {
				pools[l.Source] = true
			}
			if len(pools) != rounds || len(s.Tallies) < 3*rounds {
				t.Errorf("%d pools, %d tallies", len(pools), len(s.Tallies))
			}
		})
	}
}
