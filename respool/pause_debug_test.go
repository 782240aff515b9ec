//go:build debug

package respool

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every call of the hot path stops where a test can hold it, between each two atomic steps.
func TestPauses(t *testing.T) {
	v := newVault(t)
	p := open(t, v, Options{Low: 80, High: 80, Max: 80, MinInterval: 1 << 40})
	c, r := p.NewCache(2), reserve(t, p, 0)
	var e int
	es := make([]int, 2)
	long := make([]int, chunk+1)
	swaps := []string{"pop: before the swap", "push: before the swap"}
	for _, call := range []struct {
		what string
		f    func() error
		want []string
	}{
		{"Get", func() (err error) { e, err = p.Get(); return }, []string{"get: popped", swaps[0]}},
		{"Put", func() error { return p.Put(e) }, []string{"put: slot taken", swaps[1]}},
		{"GetBatch", func() error { return p.GetBatch(es) }, []string{"get batch: popped", swaps[0]}},
		{"PutBatch", func() error { return p.PutBatch(es) }, []string{"put batch: slots taken", swaps[1]}},
		{"long GetBatch", func() error { return p.GetBatch(long) }, []string{"get batch: popped", swaps[0]}},
		{"long PutBatch", func() error { return p.PutBatch(long) }, []string{"put batch: slots taken", swaps[1]}},
		{"Cache.Get", func() (err error) { e, err = c.Get(); return }, []string{"get batch: popped", swaps[0]}},
		{"Cache.Put", func() error { return c.Put(e) }, nil},
		{"Cache.Flush", func() error { return c.Flush() }, []string{"put batch: slots taken", swaps[1]}},
		{"Reserve", func() error { return r.Add(2) }, []string{swaps[0], "reserve: popped"}},
		{"draw", func() (err error) { e, err = r.Get(); return }, []string{"draw: not reserved any more"}},
		{"Reservation.Put", func() error { return r.Put(e) }, []string{"reservation put: counted", "reservation put: slot taken"}},
		{"Return", r.Return, []string{swaps[1], "return: not reserved any more"}},
	} {
		seen := map[string]bool{}
		see := func(at string) { seen[at] = true }
		testPause.Store(&see)
		err := call.f()
		testPause.Store(nil)
		slices.Sort(call.want)
		if diff := cmp.Diff(call.want, slices.Sorted(maps.Keys(seen))); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", call.what, err, strings.TrimSpace(diff))
		}
	}
	end(t, p, v)
}
