//go:build debug

package respool

import (
	"context"
	"strings"
	"testing"
)

// caught is what f panics with, nil if it does not.
func caught(f func()) (r any) {
	defer func() { r = recover() }()
	f()
	return nil
}

//go:noinline
func beginHere() NoSleep { return BeginNoSleep() }

// Every call that waits panics in a section, with both stacks, even if it would not have had to
// wait, and does nothing; those that do not wait go on.
func TestNoSleep(t *testing.T) {
	v := newVault(t)
	p := open(t, v, Options{Name: "p", Low: 8, Max: 8}) // enough for all calls below
	ctx := context.Background()
	r := reserve(t, p, 0)
	waits := map[string]func(){
		"New":            func() { _, _ = New(ctx, v, Options{}) },
		"Close":          func() { _ = p.Close(ctx) },
		"GetWait":        func() { _, _ = p.GetWait(ctx) },
		"ReserveWait":    func() { _, _ = p.ReserveWait(ctx, 1) },
		"ReserveAllWait": func() { _ = ReserveAllWait(ctx, r.Need(1)) },
		"nothing at all": func() { _ = ReserveAllWait(ctx) },
		"Wait":           func() { _ = p.Wait(ctx) },
		"As":             func() { _, _ = p.As(Critical).GetWait(ctx) },
	}
	before := p.Stats()
	for name, wait := range waits {
		s := beginHere()
		got := caught(wait)
		report, ok := got.(Report)
		if !ok {
			t.Fatalf("%s in a section: %v", name, got)
		}
		wantReport(t, report, SleepInside, "beginHere", "TestNoSleep.func")
		if text := report.String(); !strings.Contains(text, "section begun by goroutine") || !strings.Contains(text, "call that waits by goroutine") {
			t.Errorf("%s: %s", name, text)
		}
		s.End()
	}
	if p.Stats() != before || len(v.live) != 8 {
		t.Errorf("a refused call changed something: %+v", p.Stats())
	}
	s := beginHere()
	put(t, p, get(t, p, 2)...)
	if err := r.Add(1); err != nil || r.Return() != nil {
		t.Error(err)
	}
	s.End()
	for name, wait := range waits {
		if name != "Close" && name != "New" {
			if got := caught(wait); got != nil {
				t.Errorf("%s after the section: %v", name, got)
			}
		}
	}
	_ = p.Close(ended())
}

// Sections nest and end in any order. Another goroutine's do not count.
func TestNoSleepNested(t *testing.T) {
	outer, inner := BeginNoSleep(), beginHere()
	inside := func() bool { return caught(mightSleep) != nil }
	if !inside() {
		t.Error("not in a section of two")
	}
	other := make(chan bool)
	go func() { other <- inside() }()
	if <-other {
		t.Error("another goroutine is in it too")
	}
	outer.End()
	if !inside() {
		t.Error("the inner section ended with the outer one")
	}
	go func() { other <- caught(inner.End) != nil }()
	if !<-other || !inside() {
		t.Error("another goroutine ended it")
	}
	inner.End()
	if inside() {
		t.Error("in a section that has ended")
	}
	report, ok := caught(inner.End).(Report)
	if !ok {
		t.Fatal("ended twice without a panic")
	}
	wantReport(t, report, WrongEnd, "beginHere", "caught")
	NoSleep{}.End()
	if n := sections.n.Load(); n != 0 || len(sections.open) != 0 {
		t.Errorf("%d sections are left: %v", n, sections.open)
	}
}
