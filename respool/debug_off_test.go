//go:build !debug

package respool

import (
	"reflect"
	"testing"
	"time"
)

// Without the tag there is nothing: no memory, no check, no report.
func TestNoDebug(t *testing.T) {
	for _, typ := range []reflect.Type{reflect.TypeFor[ledger[[]int]](), reflect.TypeFor[NoSleep](), reflect.TypeFor[lineDebug]()} {
		if typ.Size() != 0 {
			t.Errorf("%v has %d bytes", typ, typ.Size())
		}
	}
	v := newVault(t)
	p := open(t, v, Options{Low: 2, Max: 2, HoldLimit: 1, OnReport: func(r Report) { t.Errorf("report: %v", r) }})
	s := BeginNoSleep()
	a, b := must(p.GetWait(t.Context())), must(p.GetWait(t.Context()))
	time.Sleep(time.Millisecond)
	put(t, p, a, b)
	s.End()
	s.End()
	if n := testing.AllocsPerRun(100, func() { BeginNoSleep().End() }); n != 0 {
		t.Errorf("a section: %v allocations", n)
	}
	end(t, p, v)
}
