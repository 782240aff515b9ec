package respool

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestDefaults(t *testing.T) {
	rest := Options{
		MinInterval: 500 * time.Microsecond, MaxInterval: 10 * time.Millisecond, RestInterval: 100 * time.Millisecond,
		IdleAfter: time.Second, MinAge: 10 * time.Second, MaxBackoff: time.Second, MaxShare: 0.05,
	}
	for _, c := range []struct {
		set, want Options
	}{
		{Options{}, Options{Low: 16, High: 32, Max: 1024, Step: 4}},
		{Options{Max: 1}, Options{Low: 1, High: 1, Max: 1, Step: 1}},
		{Options{Max: 10}, Options{Low: 3, High: 6, Max: 10, Step: 1}},
		{Options{High: 8}, Options{Low: 2, High: 8, Max: 1024, Step: 1}},
		{Options{Low: 1000}, Options{Low: 1000, High: 2000, Max: 4000, Step: 250}},
		{Options{Low: 6, Max: 10}, Options{Low: 6, High: 10, Max: 10, Step: 1}},
		{Options{Max: 10, OrdinaryMark: 8}, Options{Low: 10, High: 10, Max: 10, Step: 1, OrdinaryMark: 8}},
		{Options{High: 5, OrdinaryMark: 4}, Options{Low: 5, High: 5, Max: 1024, Step: 1, OrdinaryMark: 4}},
		{Options{Min: 1 << 23}, Options{Min: 1 << 23, Low: 16, High: 32, Max: maxElements, Step: 4}},
	} {
		c.want.MinInterval, c.want.MaxInterval, c.want.RestInterval = rest.MinInterval, rest.MaxInterval, rest.RestInterval
		c.want.IdleAfter, c.want.MinAge, c.want.MaxBackoff, c.want.MaxShare = rest.IdleAfter, rest.MinAge, rest.MaxBackoff, rest.MaxShare
		got, err := c.set.resolve(0)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%+v: %v\n%s", c.set, err, diff)
		}
	}
	for _, o := range []Options{{MinInterval: time.Second}, {MaxInterval: time.Microsecond}, {RestInterval: time.Microsecond}} {
		if got, err := o.resolve(0); err != nil || got.MinInterval != got.MaxInterval {
			t.Errorf("%+v gives %+v, %v", o, got, err)
		}
	}
	if got, err := (Options{RestInterval: 5 * time.Millisecond}).resolve(0); err != nil || got.MaxInterval != got.RestInterval {
		t.Errorf("a short RestInterval gives %+v, %v", got, err)
	}
}

func TestBadOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"Min (5) is above Max (4): lower Min or raise Max":     {Min: 5, Max: 4},
		"Low (5) is above Max (4): lower Low or raise Max":     {Low: 5, Max: 4},
		"High (5) is above Max (4): lower High or raise Max":   {High: 5, Max: 4},
		"Low (6) is above High (5): lower Low or raise High":   {Low: 6, High: 5},
		"Step (9) is above Max (4): lower Step or raise Max":   {Step: 9, Max: 4},
		"MinInterval (1s) is above MaxInterval (1ms): lower":   {MinInterval: time.Second, MaxInterval: time.Millisecond},
		"MaxInterval (2s) is above RestInterval (1s): lower":   {MaxInterval: 2 * time.Second, RestInterval: time.Second},
		"OrdinaryMark (4) is not below Low (4), where the":     {OrdinaryMark: 4, Max: 4},
		"AtomicMark (3) is above OrdinaryMark (2): lower":      {OrdinaryMark: 2, AtomicMark: 3},
		"Min is negative (-1): leave it zero for the default":  {Min: -1},
		"IdleAfter is negative (-1000000000): leave it zero":   {IdleAfter: -time.Second},
		"16777216 elements are more than a pool can hold: use": {Max: 1 << 24},
	} {
		v := newVault(t)
		p, err := New(context.Background(), v, o)
		if p != nil || !errors.Is(err, ErrBadOptions) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", o, err, want)
		}
		if v.allocCalls() != 0 {
			t.Errorf("%+v: the source was asked", o)
		}
	}
	if _, err := New[int](context.Background(), nil, Options{}); !errors.Is(err, ErrBadOptions) {
		t.Errorf("nil source: %v", err)
	}
}

// Whatever is accepted makes sense, and what is set stays as it was set.
func TestOptionsResolve(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		num := func(s string) int { return rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 40)).Draw(t, s) }
		set := Options{Min: num("min"), Low: num("low"), High: num("high"), Max: num("max"), Step: num("step")}
		got, err := set.resolve(0)
		if err != nil {
			if consistent(set) {
				t.Fatalf("%+v contradicts nothing: %v", set, err)
			}
			return
		}
		if got.Low < 1 || got.Low > got.High || got.High > got.Max || got.Min > got.Max || got.Step < 1 || got.Step > got.Max {
			t.Fatalf("%+v gives %+v", set, got)
		}
		for _, f := range [][2]int{{set.Min, got.Min}, {set.Low, got.Low}, {set.High, got.High}, {set.Max, got.Max}, {set.Step, got.Step}} {
			if f[0] != 0 && f[0] != f[1] {
				t.Fatalf("%+v gives %+v", set, got)
			}
		}
	})
}

// consistent says whether no two numbers are set that could contradict each other.
func consistent(o Options) bool {
	under := func(a, b int) bool { return a == 0 || b == 0 || a <= b }
	return under(o.Min, o.Max) && under(o.Low, o.Max) && under(o.High, o.Max) && under(o.Low, o.High) && under(o.Step, o.Max)
}
