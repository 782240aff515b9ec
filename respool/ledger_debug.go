//go:build debug

package respool

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"
)

// debugging says whether this is a debug build.
const debugging = true

// A ledger knows who has which element of a pool. Its lock is not held while the pool, its source or
// OnReport is called.
type ledger[T any] struct {
	pool     *Pool[T]
	node     *node
	opts     Options
	poisoner Poisoner[T] // nil if the source is none
	identity func(reflect.Value) key

	mu       sync.Mutex
	accounts map[key]*account
	reserved map[*Reservation[T]]*reservationNote
	caches   map[*Cache[T]]cacheNote
	timer    *time.Timer // for the next holder who is over the limit
	over     bool        // Close has ended
	kept     []Report    // that nobody heard
	lost     int         // reports that kept had no room for
}

// An account is of one element, or of all that are equal.
type account struct {
	out      []*holding
	put      *putNote // the last Put, nil if there was none since the source made it
	poisoned int
}

// A holding is from the Get of an element to its Put.
type holding struct {
	trace
	how  string
	at   time.Time
	told bool // that it takes longer than HoldLimit
}

type putNote struct {
	trace
	had *holding
}

// A receipt undoes an accepted Put.
type receipt[T any] []returned[T]

type returned[T any] struct {
	element T
	key     key
	had     *holding
	before  *putNote
}

func (l *ledger[T]) init(p *Pool[T]) {
	l.pool, l.opts = p, p.opts
	l.poisoner, _ = p.src.(Poisoner[T])
	l.identity = identityOf(reflect.TypeFor[T]())
	l.accounts = map[key]*account{}
	l.reserved = map[*Reservation[T]]*reservationNote{}
	l.caches = map[*Cache[T]]cacheNote{}
	l.node = &node{id: p.line.id, name: p.opts.Name, origin: l.origin, hears: l.opts.OnReport != nil, deliver: l.report}
	p.line.debug.node = l.node
}

func (l *ledger[T]) key(e *T) key { return l.identity(reflect.ValueOf(e).Elem()) }

// poisons reports whether the element of this key is poisoned in the pool.
func (l *ledger[T]) poisons(k key) bool { return l.poisoner != nil && k != key(alike{}) }

// got notes that the caller has e.
func (l *ledger[T]) got(e T, c Class) { l.gotAll([]T{e}, c) }

// gotAll notes that the caller has es.
func (l *ledger[T]) gotAll(es []T, c Class) {
	if len(es) == 0 {
		return
	}
	at, now, how := here(), time.Now(), "got"
	if c != Ordinary {
		how = fmt.Sprintf("got (%v)", c)
	}
	var reports []Report
	for i := range es {
		k := l.key(&es[i])
		h := &holding{trace: at, how: how, at: now}
		if note, poisoned := l.open(k, h); poisoned {
			reports = append(reports, l.check(es[i], k, note)...)
		}
	}
	l.node.hold(at.goroutine, len(es))
	for _, r := range reports {
		l.report(r)
	}
}

// open enters a holding, and says who put the element before and whether it is poisoned.
func (l *ledger[T]) open(k key, h *holding) (note *putNote, poisoned bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[k]
	if a == nil {
		a = &account{}
		l.accounts[k] = a
	}
	a.out = append(a.out, h)
	l.arm()
	if a.poisoned == 0 {
		return a.put, false
	}
	a.poisoned--
	return a.put, true
}

// check undoes the poison of e, and reports what was written since.
func (l *ledger[T]) check(e T, k key, note *putNote) []Report {
	err := l.poisoner.Check(e)
	if err == nil {
		return nil
	}
	r := Report{Kind: WrittenAfterPut, Pool: l.opts.Name, Element: elementText(k), Count: 1, Detail: err.Error()}
	if note != nil {
		r.Stacks = note.stacks()
	}
	return []Report{r}
}

func (n *putNote) stacks() []Stack {
	return []Stack{n.stack("put"), n.had.stack(n.had.how + " before that")}
}

// put notes that the caller gives e back, which put does, and poisons it; or it refuses e.
func (l *ledger[T]) put(e T, put func(T) error) error {
	return l.putAll([]T{e}, func([]T) error { return put(e) })
}

// putAll is put for all of es or none.
func (l *ledger[T]) putAll(es []T, put func([]T) error) error {
	back, refused := l.accept(es)
	err := refused
	if refused == nil {
		err = put(es)
	}
	if err != nil {
		l.undo(back)
	}
	return err
}

// putCached is put into a cache, which refuses everything once it is closed.
func (l *ledger[T]) putCached(c *Cache[T], e T) error {
	if c.closed {
		return c.put(e)
	}
	return l.put(e, c.put)
}

// putAllCached is putAll into a cache.
func (l *ledger[T]) putAllCached(c *Cache[T], es []T) error {
	if c.closed {
		return c.putBatch(es)
	}
	return l.putAll(es, c.putBatch)
}

// accept ends the holdings of es, or says why one of them cannot be put; then what it did is to
// be undone.
func (l *ledger[T]) accept(es []T) (receipt[T], error) {
	back := make(receipt[T], 0, len(es))
	at := here()
	for i := range es {
		k := l.key(&es[i])
		had, before, refused := l.close(k, at)
		if refused != nil {
			return back, l.refusal(*refused)
		}
		back = append(back, returned[T]{es[i], k, had, before})
		if l.poisons(k) {
			l.poisoner.Poison(es[i])
		}
	}
	return back, nil
}

// close ends a holding, that of the caller if there are several, or refuses.
func (l *ledger[T]) close(k key, at trace) (had *holding, before *putNote, refused *Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[k]
	if a == nil || len(a.out) == 0 {
		r := Report{Kind: PutForeign, Pool: l.opts.Name, Element: elementText(k), Count: 1, Stacks: []Stack{at.stack("put")}}
		if a != nil && a.put != nil {
			r.Kind = PutTwice
			r.Stacks = append([]Stack{at.stack("put again")}, a.put.stacks()...)
		}
		return nil, nil, &r
	}
	i := max(0, slices.IndexFunc(a.out, func(h *holding) bool { return h.goroutine == at.goroutine }))
	had, before = a.out[i], a.put
	a.out = slices.Delete(a.out, i, i+1)
	a.put = &putNote{at, had}
	if l.poisons(k) {
		a.poisoned++
	}
	l.node.hold(had.goroutine, -1)
	return had, before, nil
}

// undo takes accepted puts back.
func (l *ledger[T]) undo(back receipt[T]) {
	for _, b := range slices.Backward(back) {
		if l.poisons(b.key) {
			_ = l.poisoner.Check(b.element) // nobody had time to write but who still has it
		}
		l.reopen(b)
	}
}

func (l *ledger[T]) reopen(b returned[T]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[b.key]
	a.out = append(a.out, b.had)
	a.put = b.before
	if l.poisons(b.key) {
		a.poisoned--
	}
	l.node.hold(b.had.goroutine, 1)
	l.arm()
}

// refusal is the error of a refused Put: that of a closed pool first, as in other builds.
func (l *ledger[T]) refusal(r Report) error {
	if l.pool.ready.head.Load()&sealed != 0 {
		return l.pool.errs.putClosed
	}
	err := ErrForeign
	if r.Kind == PutTwice {
		err = fmt.Errorf("%w (%w)", ErrDoublePut, ErrForeign)
	}
	if l.opts.OnReport != nil {
		l.opts.OnReport(r)
	}
	return &OpError{Op: "put", Pool: l.opts.Name, Err: fmt.Errorf("%w: %v", err, r)}
}

// leaves ends the account of e, which the pool is about to dispose of.
func (l *ledger[T]) leaves(e T) {
	k := l.key(&e)
	if note, poisoned := l.drop(k); poisoned {
		for _, r := range l.check(e, k, note) {
			l.report(r)
		}
	}
}

func (l *ledger[T]) drop(k key) (note *putNote, poisoned bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[k]
	if a == nil {
		return nil, false
	}
	note, poisoned = a.put, a.poisoned > 0
	if poisoned {
		a.poisoned--
	}
	if len(a.out) == 0 && a.poisoned == 0 {
		delete(l.accounts, k)
	}
	return note, poisoned
}

// origin is where a goroutine got an element of this pool that it has, or reserved some.
func (l *ledger[T]) origin(goroutine uint64) trace {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.reserved {
		if r.goroutine == goroutine {
			return r.trace
		}
	}
	for _, a := range l.accounts {
		for _, h := range a.out {
			if h.goroutine == goroutine {
				return h.trace
			}
		}
	}
	return trace{goroutine: goroutine} // it has put it back meanwhile, for another goroutine did
}
