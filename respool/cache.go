package respool

// A Cache is one owner's stock of elements of a pool. As long as it has what is asked
// for, or room for what is put, a call costs no atomic operation. Otherwise it makes a
// trip to the pool, which leaves it half full.
//
// Only one goroutine at a time may use a Cache; handing it to another one needs the
// synchronization that a variable would. The race detector reports who does without.
//
// Elements in a cache are out of reach for everybody else: a Get of the pool may be
// answered ErrEmpty while caches hold some. Elements may be got through a cache and put
// straight into the pool, and the other way round. Close a cache, or Flush it
// before a long rest: the pool's Close waits for what is in it.
type Cache[T any] struct {
	p      *Pool[T]
	elems  []T // of which the first n are elements, the last one put at the end
	n      int
	half   int
	told   int   // n as p.cached has it
	class  Class // of its trips
	closed bool
	_      [cacheLine - 8*8]byte
}

// NewCache makes an empty cache that holds up to size elements, at least 1 and at most
// Options.Max.
func (p *Pool[T]) NewCache(size int) *Cache[T] { return p.newCache(size, Ordinary) }

func (p *Pool[T]) newCache(size int, c Class) *Cache[T] {
	size = max(min(size, p.opts.Max), 1)
	return &Cache[T]{p: p, elems: make([]T, size), half: size / 2, class: c}
}

// Len is how many elements the cache holds.
//
//gommu:nosleep
func (c *Cache[T]) Len() int { return c.n }

// Get takes an element out of the cache, or out of the pool if there is none. It
// returns what Pool.Get does. Once the pool's Close was called it gives all that the
// cache holds back to the pool and returns ErrClosed. It never sleeps.
//
//gommu:nosleep
func (c *Cache[T]) Get() (T, error) {
	n := c.n - 1
	if uint(n) >= uint(len(c.elems)) || c.p.shut.Load() {
		return c.refill()
	}
	var none T
	e := c.elems[n]
	c.elems[n] = none // keep nothing alive that e points to
	c.n = n
	if debugging {
		c.p.debug.got(e, c.class)
	}
	return e, nil
}

// refill is Get where the cache is empty or may not be used.
//
//gommu:nosleep
func (c *Cache[T]) refill() (T, error) {
	var none T
	if err := c.usable(c.p.errs.getCacheClosed, c.p.errs.getClosed); err != nil {
		return none, err
	}
	n, err := c.p.take(c.elems[:c.half+1], 1, c.class)
	if err != nil {
		c.tell()
		return none, err
	}
	e := c.elems[n-1]
	c.elems[n-1] = none
	c.n = n - 1
	c.tell()
	if debugging {
		c.p.debug.got(e, c.class)
	}
	return e, nil
}

// Put gives an element to the cache; if that is full, half of what it holds goes back to
// the pool, what was put first. Put returns what Pool.Put does, but that more elements
// are put than were got it notices only on a trip to the pool. Once the pool's Close was
// called, e and all that the cache holds go to the pool. It never sleeps.
//
//gommu:nosleep
func (c *Cache[T]) Put(e T) error {
	if debugging {
		return c.p.debug.putCached(c, e)
	}
	return c.put(e)
}

//gommu:nosleep
func (c *Cache[T]) put(e T) error {
	n := c.n
	if uint(n) >= uint(len(c.elems)) || c.p.shut.Load() {
		return c.overflow(e)
	}
	c.elems[n] = e
	c.n = n + 1
	return nil
}

// overflow is Put where the cache is full or may not be used.
//
//gommu:nosleep
func (c *Cache[T]) overflow(e T) error {
	switch err := c.usable(c.p.errs.putCacheClosed, nil); {
	case err != nil:
		return err
	case c.p.shut.Load():
		return c.p.put(e)
	}
	if err := c.giveBack(c.n - c.half); err != nil {
		return err
	}
	c.elems[c.n] = e
	c.n++
	c.tell()
	return nil
}

// GetBatch fills dst, all of it or nothing, from the cache and, for what is missing
// there, from the pool. Otherwise it is like Get.
//
//gommu:nosleep
func (c *Cache[T]) GetBatch(dst []T) error {
	err := c.getBatch(dst)
	if debugging && err == nil {
		c.p.debug.gotAll(dst, c.class)
	}
	return err
}

//gommu:nosleep
func (c *Cache[T]) getBatch(dst []T) error {
	if len(dst) > c.n || c.p.shut.Load() {
		return c.refillBatch(dst)
	}
	c.n -= len(dst)
	from := c.elems[c.n:][:len(dst)]
	copy(dst, from)
	clear(from)
	return nil
}

// refillBatch is GetBatch where the cache has too little or may not be used.
//
//gommu:nosleep
func (c *Cache[T]) refillBatch(dst []T) error {
	switch err := c.usable(c.p.errs.getCacheClosed, c.p.errs.getClosed); {
	case len(dst) == 0:
		return nil
	case err != nil:
		return err
	}
	if len(dst) > c.p.opts.Max {
		return c.p.errs.batch
	}
	if err := c.p.getBatch(dst[c.n:], c.class); err != nil {
		c.tell()
		return err
	}
	copy(dst, c.elems[:c.n])
	clear(c.elems[:c.n])
	c.n = c.p.takeSome(c.elems[:c.half], c.class)
	c.tell()
	return nil
}

// PutBatch gives all of src to the cache and, what has no room there, to the pool, or
// nothing. A batch larger than half the cache that has no room goes straight to the
// pool. Otherwise it is like Put.
//
//gommu:nosleep
func (c *Cache[T]) PutBatch(src []T) error {
	if debugging {
		return c.p.debug.putAllCached(c, src)
	}
	return c.putBatch(src)
}

//gommu:nosleep
func (c *Cache[T]) putBatch(src []T) error {
	if len(src) > len(c.elems)-c.n || c.p.shut.Load() {
		return c.overflowBatch(src)
	}
	copy(c.elems[c.n:], src)
	c.n += len(src)
	return nil
}

// overflowBatch is PutBatch where the cache has no room or may not be used.
//
//gommu:nosleep
func (c *Cache[T]) overflowBatch(src []T) error {
	switch err := c.usable(c.p.errs.putCacheClosed, nil); {
	case len(src) == 0:
		return nil
	case err != nil:
		return err
	case len(src) > c.half || c.p.shut.Load():
		return c.p.putBatch(src)
	}
	if err := c.giveBack(c.n + len(src) - c.half); err != nil {
		return err
	}
	copy(c.elems[c.n:], src)
	c.n += len(src)
	c.tell()
	return nil
}

// Flush gives all that the cache holds back to the pool. If the pool refuses it, as
// Pool.PutBatch says, it stays in the cache. Flush never sleeps.
//
//gommu:nosleep
func (c *Cache[T]) Flush() error {
	err := c.giveBack(c.n)
	c.tell()
	return err
}

// Close flushes the cache and ends its use: afterwards Get and Put return
// ErrCacheClosed. If Flush fails, so does Close, and the cache stays open. Closing a closed cache
// does nothing. Close never sleeps.
//
//gommu:nosleep
func (c *Cache[T]) Close() error {
	if err := c.Flush(); err != nil {
		return err
	}
	c.elems, c.half, c.closed = nil, 0, true
	return nil
}

// usable returns whenClosed if the cache is closed. If Close of the pool was called it
// flushes the cache, as far as the pool lets it, and returns whenShut.
//
//gommu:nosleep
func (c *Cache[T]) usable(whenClosed, whenShut error) error {
	switch {
	case c.closed:
		return whenClosed
	case c.p.shut.Load():
		_ = c.Flush() // the pool's Close reports what it does not get
		return whenShut
	}
	return nil
}

// giveBack returns the k elements that were put first to the pool.
//
//gommu:nosleep
func (c *Cache[T]) giveBack(k int) error {
	if err := c.p.putBatch(c.elems[:k]); err != nil {
		return err
	}
	copy(c.elems, c.elems[k:c.n])
	clear(c.elems[c.n-k : c.n])
	c.n -= k
	return nil
}

// tell lets Stats know how many elements the cache holds.
//
//gommu:nosleep
func (c *Cache[T]) tell() {
	if c.n != c.told {
		c.p.cached.Add(int64(c.n - c.told))
		c.told = c.n
		c.p.debug.stocks(c)
	}
}
