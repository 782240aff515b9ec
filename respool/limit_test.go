package respool

import (
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const mib = 1 << 20

func TestLimits(t *testing.T) {
	for name, c := range map[string]struct {
		set    Options
		memory int64
		want   int    // Max
		says   string // if refused
	}{
		"unknown memory":            {Options{ElemSize: mib}, 0, 1024, ""},
		"5 % of plenty":             {Options{ElemSize: mib}, 1 << 40, 1024, ""},
		"5 % of 1000 MiB":           {Options{ElemSize: mib}, 1000 * mib, 50, ""},
		"a share":                   {Options{ElemSize: mib, MaxShare: 0.5}, 1000 * mib, 500, ""},
		"all":                       {Options{ElemSize: mib, MaxShare: 1}, 1000 * mib, 1000, ""},
		"bytes":                     {Options{ElemSize: mib, MaxBytes: 9*mib - 1}, 1000 * mib, 8, ""},
		"bytes above share":         {Options{ElemSize: mib, MaxBytes: 99 * mib}, 1000 * mib, 50, ""},
		"bytes without memory":      {Options{ElemSize: mib, MaxBytes: 99 * mib}, 0, 99, ""},
		"a large default is cut":    {Options{ElemSize: mib, Low: 40}, 1000 * mib, 50, ""},
		"Max fits":                  {Options{ElemSize: mib, Max: 50}, 1000 * mib, 50, ""},
		"Max does not":              {Options{ElemSize: mib, Max: 51}, 1000 * mib, 0, "51 elements of 1048576 bytes are more than the 52428800 bytes that MaxShare (0.05 of 1048576000 bytes of memory) allows: have at most 50 elements, or raise it"},
		"Min does not":              {Options{ElemSize: mib, Min: 9, MaxBytes: 8 * mib}, 0, 0, "9 elements of 1048576 bytes are more than the 8388608 bytes that MaxBytes allows: have at most 8 elements, or raise it"},
		"Low does not":              {Options{ElemSize: mib, Low: 9, MaxBytes: 8 * mib}, 0, 0, "have at most 8"},
		"High does not":             {Options{ElemSize: mib, High: 9, MaxBytes: 8 * mib}, 0, 0, "have at most 8"},
		"not even one":              {Options{ElemSize: mib, MaxBytes: mib - 1}, 0, 0, "have at most 0"},
		"huge elements":             {Options{ElemSize: math.MaxInt64}, 1000 * mib, 0, "have at most 0"},
		"no size":                   {Options{}, 1, 1024, ""},
		"none":                      {Options{ElemSize: mib, Max: None, MaxBytes: 1}, 1, 0, ""},
		"more than a pool can hold": {Options{ElemSize: 1}, math.MaxInt64, 1024, ""},
	} {
		got, err := c.set.resolve(c.memory)
		switch {
		case c.says != "":
			if !errors.Is(err, ErrLimit) || !errors.Is(err, ErrBadOptions) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil || got.Max != c.want:
			t.Errorf("%s: Max is %d, not %d; %v", name, got.Max, c.want, err)
		}
	}
}

// What is accepted fits, and what is refused does not.
func TestLimitsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		num := func(s string) int { return rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 40)).Draw(t, s) }
		set := Options{Min: num("min"), Low: num("low"), High: num("high"), Max: num("max"), Step: num("step")}
		if _, err := set.resolve(0); err != nil {
			return
		}
		set.ElemSize = int64(rapid.IntRange(1, 100).Draw(t, "size"))
		set.MaxBytes = int64(rapid.IntRange(0, 5000).Draw(t, "bytes"))
		set.MaxShare = rapid.SampledFrom([]float64{0, 0.01, 0.5, 1}).Draw(t, "share")
		memory := int64(rapid.IntRange(0, 20000).Draw(t, "memory"))
		fits := func(n int) bool {
			share := set.MaxShare
			if share == 0 {
				share = 0.05
			}
			bytes := int64(n) * set.ElemSize
			return (set.MaxBytes == 0 || bytes <= set.MaxBytes) && (memory == 0 || bytes <= int64(share*float64(memory)))
		}
		got, err := set.resolve(memory)
		most := max(set.Min, set.Low, set.High, set.Max, set.Step, 1)
		switch {
		case err != nil && (!errors.Is(err, ErrLimit) || fits(most)):
			t.Fatalf("%+v with %d bytes: %v", set, memory, err)
		case err == nil && (!fits(got.Max) || got.Low > got.High || got.High > got.Max || got.Step > got.Max || got.Min > got.Max):
			t.Fatalf("%+v with %d bytes gives %+v", set, memory, got)
		}
	})
}

func TestBadShares(t *testing.T) {
	for _, share := range []float64{-0.1, 1.1, math.NaN(), math.Inf(1)} {
		if _, err := (Options{MaxShare: share}).resolve(0); !errors.Is(err, ErrBadOptions) {
			t.Errorf("%v: %v", share, err)
		}
	}
}

type sizedVault struct {
	*vault
	size int64
}

func (v sizedVault) ElemSize() int64 { return v.size }

func TestElemSize(t *testing.T) {
	v := newVault(t)
	for _, c := range []struct {
		src  Source[int]
		set  int64
		want int64
	}{
		{v, 0, 8}, {v, 100, 100}, {sizedVault{v, 4096}, 0, 4096}, {sizedVault{v, 4096}, 100, 100}, {sizedVault{v, 0}, 0, 8}, {sizedVault{v, -1}, 0, 8},
	} {
		if got := sized(Options{ElemSize: c.set}, c.src).ElemSize; got != c.want {
			t.Errorf("%T, %d set: %d bytes, not %d", c.src, c.set, got, c.want)
		}
	}
	if _, err := New(t.Context(), sizedVault{v, 4096}, Options{Min: 100, MaxBytes: 99 * 4096}); !errors.Is(err, ErrLimit) || v.calls != 0 {
		t.Errorf("%v after %d calls of the source", err, v.calls)
	}
}
