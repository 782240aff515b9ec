package respool

// GetBatch fills dst with elements of the pool: all of it or, if fewer are ready than
// that, nothing, and returns ErrEmpty, or ErrBatch if there can never be that many. Once
// Close was called it returns ErrClosed. An error leaves dst as it was. It never sleeps;
// its work grows with len(dst). A batch of thousands among busy Gets and Puts may be
// overtaken, and retried, for milliseconds: split it.
//
//gommu:nosleep
func (p *Pool[T]) GetBatch(dst []T) error {
	if len(dst) == 0 {
		return nil
	}
	if len(dst) > p.opts.Max {
		return p.errs.batch
	}
	_, err := p.take(dst, len(dst))
	return err
}

// take fills dst with as many elements as are ready, but at least least or none, and
// says how many.
//
//gommu:nosleep
func (p *Pool[T]) take(dst []T, least int) (int, error) {
	var notes notes
	first, n, left, head := p.ready.popChain(least, len(dst), barred, &notes)
	if n == 0 {
		return 0, p.refusal(head)
	}
	p.hand(dst[:n], first, left, &notes)
	return n, nil
}

// takeSome fills dst with as many elements as are ready, which may be none, and says how
// many. To find too few is no failure that the worker should act on.
//
//gommu:nosleep
func (p *Pool[T]) takeSome(dst []T) int {
	var notes notes
	first, n, left, _ := p.ready.popChain(0, len(dst), barred, &notes)
	if n > 0 {
		p.hand(dst[:n], first, left, &notes)
	}
	return n
}

// hand is the second half of GetBatch: it moves the elements of the slots from first on,
// which were popped from ready, to dst. It left so many on ready.
//
//gommu:nosleep
func (p *Pool[T]) hand(dst []T, first uint32, left int, notes *notes) {
	p.dipped(left)
	var none T
	elems, at := p.elems, uint64(first)
	for i := range dst {
		dst[i] = elems[at]
		elems[at] = none // keep nothing alive that it points to
		at = p.ready.after(at, i, notes)
	}
	p.lent.pushChain(&p.ready, first, len(dst), 0, notes)
}

// PutBatch gives all of src back, or nothing: it returns ErrForeign if fewer elements
// than that are out, and ErrClosed as Put does. It never sleeps; its work grows with
// len(src).
//
//gommu:nosleep
func (p *Pool[T]) PutBatch(src []T) error {
	if len(src) == 0 {
		return nil
	}
	if p.ready.head.Load()&sealed != 0 {
		return p.errs.putClosed
	}
	var notes notes
	first, n, _, _ := p.lent.popChain(len(src), len(src), 0, &notes)
	if n == 0 {
		return p.errs.foreign
	}
	return p.storeChain(first, src, &notes)
}

// storeChain is the second half of PutBatch: src goes into the slots from first on,
// which were popped from lent.
//
//gommu:nosleep
func (p *Pool[T]) storeChain(first uint32, src []T, notes *notes) error {
	elems, at := p.elems, uint64(first)
	for i := range src {
		elems[at] = src[i]
		at = p.lent.after(at, i, notes)
	}
	if p.ready.pushChain(&p.lent, first, len(src), sealed, notes) {
		return nil
	}
	var none T // Close ended between the halves
	at = uint64(first)
	for i := range src {
		elems[at] = none
		at = p.lent.after(at, i, notes)
	}
	p.bounced.Add(uint64(len(src)))
	p.lent.pushChain(&p.lent, first, len(src), 0, notes)
	return p.errs.putClosed
}
