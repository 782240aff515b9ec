package respool

// GetBatch fills dst with elements of the pool: all of it or, if fewer are ready than
// that, nothing, and returns ErrEmpty, or ErrBatch if there can never be that many. Once
// Close was called it returns ErrClosed. An error leaves dst as it was. It never sleeps;
// its work grows with len(dst). A batch of thousands among busy Gets and Puts may be
// overtaken, and retried, for milliseconds: split it.
//
//gommu:nosleep
func (p *Pool[T]) GetBatch(dst []T) error {
	err := p.getBatch(dst, Ordinary)
	if debugging && err == nil {
		p.debug.gotAll(dst, Ordinary)
	}
	return err
}

//gommu:nosleep
func (p *Pool[T]) getBatch(dst []T, c Class) error {
	switch {
	case len(dst) == 0:
		return nil
	case len(dst) > p.opts.Max-p.keep[c]:
		return p.errs.batch
	case len(dst) > chunk:
		return p.getLong(dst, c)
	default:
		_, err := p.take(dst, len(dst), c)
		return err
	}
}

// take fills dst with as many elements as are ready for class c, but at least least, which is
// at most chunk, or none, and says how many. It takes a chunk at a time.
//
//gommu:nosleep
func (p *Pool[T]) take(dst []T, least int, c Class) (int, error) {
	var slots [chunk]uint32
	n, left, head := p.ready.popSlots(slots[:min(len(dst), chunk)], least, p.keep[c], barred(c))
	if n == 0 {
		return 0, p.refusal(head, max(least, 1), c)
	}
	pauseAt("get batch: popped")
	p.dipped(left)
	p.hand(dst, slots[:n])
	if n < len(dst) && n == chunk {
		n += p.takeSome(dst[n:], c)
	}
	return n, nil
}

// takeSome is take for those who can do without: to find too few is no failure that the
// worker should act on.
//
//gommu:nosleep
func (p *Pool[T]) takeSome(dst []T, c Class) (sum int) {
	var slots [chunk]uint32
	for sum < len(dst) {
		most := min(len(dst)-sum, chunk)
		n, left, _ := p.ready.popSlots(slots[:most], 0, p.keep[c], barred(c))
		if n > 0 {
			p.dipped(left)
			p.hand(dst[sum:], slots[:n])
		}
		sum += n
		if n < most {
			break
		}
	}
	return sum
}

// hand moves the elements of slots, which were popped from ready, to dst.
//
//gommu:nosleep
func (p *Pool[T]) hand(dst []T, slots []uint32) {
	var none T
	elems, dst := p.elems, dst[:len(slots)]
	for k, i := range slots {
		dst[k] = elems[i]
		elems[i] = none // keep nothing alive that it points to
	}
	p.blanks.putMany(slots)
}

// getLong is GetBatch for more than chunk elements.
//
//gommu:nosleep
func (p *Pool[T]) getLong(dst []T, c Class) error {
	at, left, head := p.ready.popChain(len(dst), p.keep[c], barred(c))
	if at == 0 {
		return p.refusal(head, len(dst), c)
	}
	pauseAt("get batch: popped")
	p.dipped(left)
	var slots [chunk]uint32
	for len(dst) > 0 {
		n := min(len(dst), chunk)
		for k := range slots[:n] {
			slots[k] = at
			at = uint32(p.ready.links[at].Load() & indexMask)
		}
		p.hand(dst, slots[:n])
		dst = dst[n:]
	}
	return nil
}

// PutBatch gives all of src back, or nothing: it returns ErrForeign if fewer elements
// than that are out, and ErrClosed as Put does. It never sleeps; its work grows with
// len(src).
//
//gommu:nosleep
func (p *Pool[T]) PutBatch(src []T) error {
	if debugging {
		return p.debug.putAll(src, p.putBatch)
	}
	return p.putBatch(src)
}

//gommu:nosleep
func (p *Pool[T]) putBatch(src []T) error {
	if len(src) > chunk {
		return p.putLong(src)
	}
	var slots [chunk]uint32
	if len(src) == 0 {
		return nil
	}
	at := slots[:len(src)]
	if !p.blanks.getMany(at) {
		return p.noBlank()
	}
	pauseAt("put batch: slots taken")
	elems := p.elems
	for k, e := range src {
		elems[at[k]] = e
	}
	end := p.ready.pushSlots(at, sealed, &p.bound)
	if end != done {
		p.clean(at)
	}
	return p.putError(end)
}

// clean empties slots again, which were not pushed.
//
//gommu:nosleep
func (p *Pool[T]) clean(slots []uint32) {
	var none T
	for _, i := range slots {
		p.elems[i] = none
	}
	p.blanks.putMany(slots)
}

// putLong is PutBatch for more than chunk elements. It links their slots to each other first,
// for all of them have to be pushed in one step.
//
//gommu:nosleep
func (p *Pool[T]) putLong(src []T) error {
	var slots [chunk]uint32
	links, next, left := p.ready.links, uint64(0), len(src)
	for left > 0 { // from the last one to the first
		group := slots[:min(left, chunk)]
		if !p.blanks.getMany(group) {
			break
		}
		for _, i := range group {
			left--
			p.elems[i] = src[left]
			links[i].Store(next)
			next = uint64(i)
		}
	}
	end := over
	pauseAt("put batch: slots taken")
	if left == 0 {
		var first notes
		p.ready.note(next, &first)
		end = p.ready.pushChain(uint32(next), len(src), sealed, &p.bound, &first)
	}
	if end != done {
		p.cleanChain(next, len(src)-left)
	}
	if left > 0 {
		return p.noBlank()
	}
	return p.putError(end)
}

// cleanChain is clean for n slots that are linked to each other.
//
//gommu:nosleep
func (p *Pool[T]) cleanChain(at uint64, n int) {
	var slots [1]uint32
	for range n {
		slots[0] = uint32(at)
		at = p.ready.links[at].Load() & indexMask
		p.clean(slots[:])
	}
}
