package iova

import "gommu/respool"

// A Cache is one owner's stock of windows: as long as it has what is asked for, and room for what is freed, a
// call costs no atomic operation. It has a respool.Cache for each class.
//
// Only one goroutine at a time may use a Cache, or those that are pinned to the same processor. Windows may be
// freed to another cache than they were taken from, or to the Space. Windows in a cache are out of everybody else's
// reach: Close it, or Flush it before a long rest.
type Cache struct {
	s      *Space
	stocks [Classes]*respool.Cache[uint32] // by class, those without windows share that of the next
	closed bool
}

// NewCache makes an empty cache for up to size windows of the smallest class, 0 being the default of 64, and for no
// more of the others than half of what is kept ready of them.
func (s *Space) NewCache(size int) *Cache {
	if size <= 0 {
		size = defaultCache
	}
	c := &Cache{s: s}
	for k := Classes - 1; k >= 0; k-- {
		switch p := s.pools[k]; {
		case p != nil:
			c.stocks[k] = p.NewCache(min(size, max(1, s.opts.Stock[k].Low/2)))
		case k < Classes-1:
			c.stocks[k] = c.stocks[k+1]
		}
	}
	return c
}

// Alloc takes a window out of the cache, and if there is none of the class half the cache's size out of what is ready. It
// returns what Space.Alloc does. It never sleeps.
//
//gommu:nosleep
func (c *Cache) Alloc(size uint64) (Window, error) {
	s := c.s
	if size-1 >= s.most {
		return Window{}, s.badSize(size)
	}
	k := classOf(size + s.guard)
	n, err := c.stocks[k].Get()
	if err != nil {
		return Window{}, c.refusal(k)
	}
	return s.table.out(n, s.sizes[s.route[k]]), nil
}

//gommu:nosleep
func (c *Cache) refusal(k int) error {
	if c.closed {
		return c.s.errs.cacheClosed
	}
	return c.s.refusal(c.s.route[k])
}

// Free ends a window as Space.Free does, into the cache, of which half goes back if it is full. That a
// window is not out is noticed where the calls are ordered, as those of one owner are; of two calls at the same time, which are a
// race, maybe not. It never sleeps.
//
//gommu:nosleep
func (c *Cache) Free(w Window) error {
	r := c.s.table.of(w)
	if r == nil {
		return c.s.notOut(w)
	}
	k := r.where & kindMask
	if k >= Classes {
		return c.s.badKind(w)
	}
	r.state = w.state + 1
	if c.stocks[k].Put(w.Number) != nil {
		r.state = w.state
		return c.freeRefusal()
	}
	return nil
}

//gommu:nosleep
func (c *Cache) freeRefusal() error {
	if c.closed {
		return c.s.errs.cacheClosed
	}
	return c.s.errs.freeClosed
}

// Flush gives all that the cache holds back to what is ready. It never sleeps.
//
//gommu:nosleep
func (c *Cache) Flush() error {
	for k, p := range c.s.pools {
		if p != nil && c.stocks[k].Flush() != nil {
			return c.s.errs.freeClosed
		}
	}
	return nil
}

// Close flushes the cache and ends its use. If Flush fails, as after the end of the Space's Close, so does Close. Closing a
// closed cache does nothing. It never sleeps.
//
//gommu:nosleep
func (c *Cache) Close() error {
	for k, p := range c.s.pools {
		if p != nil && c.stocks[k].Close() != nil {
			return c.s.errs.freeClosed
		}
	}
	c.closed = true
	return nil
}
