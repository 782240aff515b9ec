package respool

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A cache makes a trip when it is empty or full, and is half full after it.
func TestCacheTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 40, Max: 40})
		c := p.NewCache(8)
		var es []int
		var lens []int
		for range 12 {
			e, err := c.Get()
			if err != nil {
				t.Fatal(err)
			}
			es = append(es, e)
			lens = append(lens, c.Len())
		}
		for _, e := range es {
			if err := c.Put(e); err != nil {
				t.Fatal(err)
			}
			lens = append(lens, c.Len())
		}
		if diff := cmp.Diff([]int{
			4, 3, 2, 1, 0, 4, 3, 2, 1, 0, 4, 3,
			4, 5, 6, 7, 8, 5, 6, 7, 8, 5, 6, 7,
		}, lens); diff != "" {
			t.Error(diff)
		}
		want := Stats{Free: 33, Cached: 5, InUse: 2, LowestFree: 25, Gets: 15, Puts: 8, Filled: 40}
		if diff := cmp.Diff(want, p.Stats()); diff != "" {
			t.Errorf("as of the last trip: %s", diff)
		}
		if err := c.Flush(); err != nil {
			t.Error(err)
		}
		want.Free, want.Cached, want.InUse, want.Puts = 40, 0, 0, 15
		if diff := cmp.Diff(want, p.Stats()); diff != "" {
			t.Errorf("flushed: %s", diff)
		}
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

// What was put last is got first, and goes back to the pool last.
func TestCacheKeepsWhatIsHot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 5, Max: 5})
		c := p.NewCache(4)
		es := get(t, p, 5)
		for _, e := range es {
			if err := c.Put(e); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []int{es[4], es[3], es[2]} {
			if e, err := c.Get(); err != nil || e != want {
				t.Errorf("got %d, %v; want %d", e, err, want)
			}
		}
		put(t, p, es[2:]...) // got from the cache, put past it
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

func TestCacheBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 20, Max: 20})
		c := p.NewCache(8)
		var out []int
		for _, step := range []struct{ get, put, len, free int }{
			{get: 3, len: 4, free: 13},          // nothing there: all from the pool, then half full
			{get: 2, len: 2, free: 13},          // at hand
			{get: 5, len: 4, free: 6},           // two at hand, three and four from the pool
			{put: 4, len: 8, free: 6},           // room
			{put: 1, len: 4, free: 11},          // no room: half full after it
			{put: 5, len: 4, free: 16},          // no room, more than half: past the cache
			{get: 20, len: 0, free: 0},          // all there is
			{put: 20, len: 0, free: 20},         // larger than the cache
			{get: 0, put: 0, len: 0, free: 20},  // nothing
			{get: 20, put: 8, len: 8, free: 0},  // full
			{get: 1, put: 13, len: 7, free: 13}, // seven stay, thirteen past it
		} {
			buf := make([]int, step.get)
			if err := c.GetBatch(buf); err != nil {
				t.Fatalf("%+v: %v; %+v", step, err, p.Stats())
			}
			out = append(out, buf...)
			if err := c.PutBatch(out[:step.put]); err != nil {
				t.Fatalf("%+v: %v", step, err)
			}
			out = slices.Delete(out, 0, step.put)
			if s := p.Stats(); c.Len() != step.len || s.Free != step.free {
				t.Fatalf("%+v: %d in the cache, %+v", step, c.Len(), s)
			}
			seen := slices.Concat(out, c.elems[:c.n])
			for _, i := range p.readySlots() {
				seen = append(seen, p.elems[i])
			}
			slices.Sort(seen)
			if len(slices.Compact(seen)) != 20 {
				t.Fatalf("%+v: lost or doubled: %v", step, seen)
			}
		}
		if err := c.GetBatch(make([]int, 21)); !errors.Is(err, ErrBatch) || c.Len() != 7 {
			t.Errorf("more than there can be: %v, %d in the cache", err, c.Len())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

// readySlots lists the stack ready, of a pool at rest.
func (p *Pool[T]) readySlots() (slots []uint64) {
	for i := p.ready.head.Load() & indexMask; i != 0; i = p.ready.links[i].Load() & indexMask {
		slots = append(slots, i)
	}
	return slots
}

func TestCacheSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, Max: 4})
		for size, want := range map[int]int{-1: 1, 0: 1, 1: 1, 3: 3, 100: 4} {
			c := p.NewCache(size)
			if len(c.elems) != want {
				t.Errorf("a cache of %d holds %d", size, len(c.elems))
			}
			var es []int
			for range 4 {
				e, err := c.Get()
				if err != nil {
					t.Errorf("size %d: %v", size, err)
				}
				es = append(es, e)
			}
			if _, err := c.Get(); !errors.Is(err, ErrEmpty) {
				t.Errorf("size %d: %v", size, err)
			}
			for _, e := range es {
				if err := c.Put(e); err != nil {
					t.Errorf("size %d: %v", size, err)
				}
			}
			if err := c.Close(); err != nil {
				t.Errorf("size %d: %v", size, err)
			}
			_, getErr := c.Get()
			for what, err := range map[string]error{
				"Get": getErr, "Put": c.Put(1),
				"GetBatch": c.GetBatch(es), "PutBatch": c.PutBatch(es),
			} {
				if !errors.Is(err, ErrCacheClosed) {
					t.Errorf("%s of a closed cache: %v", what, err)
				}
			}
		}
		end(t, p, v)
	})
}

// A cache notices on a trip that more was put than got, and keeps what it has.
func TestCacheForeignPut(t *testing.T) {
	if debugging {
		t.Skip("a debug build refuses a foreign element at once: TestForeignElement")
	}
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, Max: 4})
		c := p.NewCache(4)
		for range 4 {
			if err := c.Put(99); err != nil {
				t.Errorf("Put without a trip: %v", err)
			}
		}
		for what, err := range map[string]error{
			"Put": c.Put(99), "PutBatch": c.PutBatch([]int{99}), "Flush": c.Flush(), "Close": c.Close(),
		} {
			if !errors.Is(err, ErrForeign) || c.Len() != 4 {
				t.Errorf("%s: %v, %d in the cache", what, err, c.Len())
			}
		}
		if s := p.Stats(); s.Cached+s.InUse != 0 || s.Free != 4 {
			t.Errorf("%+v", s)
		}
		if err := c.GetBatch(make([]int, 4)); err != nil { // takes them out again
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

// While the pool's Close waits, the next call of a cache, whichever it is, gives back all
// that it holds.
func TestCloseEmptiesCaches(t *testing.T) {
	for name, call := range map[string]func(c *Cache[int], e int) (back bool, err error){
		"get":       func(c *Cache[int], _ int) (bool, error) { _, err := c.Get(); return false, err },
		"put":       func(c *Cache[int], e int) (bool, error) { return true, c.Put(e) },
		"get batch": func(c *Cache[int], _ int) (bool, error) { return false, c.GetBatch(make([]int, 2)) },
		"put batch": func(c *Cache[int], e int) (bool, error) { return true, c.PutBatch([]int{e}) },
		"flush":     func(c *Cache[int], _ int) (bool, error) { return false, c.Flush() },
		"close":     func(c *Cache[int], _ int) (bool, error) { return false, c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVault(t)
				p := open(t, v, Options{Low: 10, Max: 10})
				c := p.NewCache(8)
				e, err := c.Get()
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan error, 1)
				go func() { done <- p.Close(context.Background()) }()
				rest()
				if v.existing() != 5 || c.Len() != 4 {
					t.Errorf("%d exist, %d in the cache", v.existing(), c.Len())
				}
				back, err := call(c, e)
				if wantErr := strings.HasPrefix(name, "get"); errors.Is(err, ErrClosed) != wantErr || !wantErr && err != nil {
					t.Errorf("%v", err)
				}
				if c.Len() != 0 {
					t.Errorf("%d in the cache", c.Len())
				}
				if !back {
					put(t, p, e)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				end(t, p, v)
			})
		})
	}
}

// A Close that gives up says how many are in caches, and there they stay until another
// one.
func TestCloseReportsCaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 10, Max: 10})
		c := p.NewCache(8)
		e, err := c.Get()
		if err != nil {
			t.Fatal(err)
		}
		err = p.Close(ended())
		wantLeak(t, err, 5, context.Canceled)
		if want := "5 not put back, 4 of them in caches when those last came to the pool"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		_, getErr := c.Get()
		for what, err := range map[string]error{
			"Get": getErr, "Put": c.Put(e), "Flush": c.Flush(), "Close": c.Close(), "PutBatch": c.PutBatch([]int{e}),
		} {
			if !errors.Is(err, ErrClosed) || c.Len() != 4 || v.existing() != 5 {
				t.Errorf("%s: %v; %d in the cache, %d exist", what, err, c.Len(), v.existing())
			}
		}
		if s := p.Stats(); s.Cached != 4 || s.InUse != 1 {
			t.Errorf("%+v", s)
		}
		done := make(chan error, 1)
		go func() { done <- p.Close(context.Background()) }()
		rest()
		if err := errors.Join(c.Put(e), c.Close()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

// Too few for a refill beyond what was asked for is no reason to grow.
func TestRefillIsNotDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, Max: 4})
		c := p.NewCache(4)
		if err := c.GetBatch(make([]int, 4)); err != nil {
			t.Error(err)
		}
		if s := p.Stats(); s.Empty != 0 {
			t.Errorf("%+v", s)
		}
		if err := c.PutBatch([]int{1, 2, 3, 4}); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

// What was got or flushed the cache's array does not keep alive, whichever way it went.
func TestCacheKeepsNothingAlive(t *testing.T) {
	p, err := New(context.Background(), pointers{}, Options{Low: 16, Max: 16, MinInterval: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	c := p.NewCache(8)
	var buf [6]*[64]byte
	var out []*[64]byte
	get := func() error {
		e, err := c.Get()
		out = append(out, e)
		return err
	}
	put := func() error {
		e := out[0]
		out = out[1:]
		return c.Put(e)
	}
	getBatch := func(n int) func() error {
		return func() error {
			err := c.GetBatch(buf[:n])
			out = append(out, buf[:n]...)
			return err
		}
	}
	for i, step := range []func() error{
		get, get, getBatch(2), get, getBatch(6), getBatch(3), getBatch(2), // nothing is left to refill it with
		put, put, put, put, put, put, put, put, c.Flush, get, c.Flush,
	} {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		for k, e := range c.elems {
			if (e != nil) != (k < c.n) {
				t.Errorf("step %d: the cache holds %d; element %d is %p", i, c.n, k, e)
			}
		}
	}
	_ = p.Close(ended())
}

// A batch that the pool can never have is refused as such, and not counted as demand.
func TestBatchLargerThanMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 1, High: 2, Max: 64, Step: 4})
		c := p.NewCache(8)
		buf := make([]int, 65)
		for range 300 {
			if err := p.GetBatch(buf); !errors.Is(err, ErrBatch) {
				t.Fatalf("pool: %v, want ErrBatch", err)
			}
			if err := c.GetBatch(buf); !errors.Is(err, ErrBatch) {
				t.Fatalf("cache: %v, want ErrBatch", err)
			}
			time.Sleep(time.Millisecond)
		}
		if s := p.Stats(); s.Free > 2 {
			t.Errorf("the pool grew for batches that it can never have: %+v", s)
		}
		end(t, p, v)
	})
}

// A trip to the pool that fails tells all the same what the cache holds now.
func TestCachedAfterFailedTrip(t *testing.T) {
	v := newVault(t)
	p := open(t, v, Options{Low: 5, Max: 5, MinInterval: time.Hour, MaxInterval: time.Hour})
	c := p.NewCache(8)
	var got []int
	for range 5 {
		e, err := c.Get()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if _, err := c.Get(); !errors.Is(err, ErrEmpty) {
		t.Fatal(err)
	}
	if s := p.Stats(); s.Cached != 0 || s.InUse != 5 {
		t.Errorf("the cache is empty: %+v", s)
	}
	if err := p.PutBatch(got); err != nil {
		t.Fatal(err)
	}
	end(t, p, v)
}

// An empty batch succeeds, as it does with the pool, whatever is closed.
func TestEmptyBatchesSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, dry(4))
		c := p.NewCache(2)
		check := func(when string) {
			t.Helper()
			if err := errors.Join(p.GetBatch(nil), p.PutBatch(nil), c.GetBatch(nil), c.PutBatch(nil)); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		check("open")
		end(t, p, v)
		check("pool closed")
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		check("both closed")
	})
}
