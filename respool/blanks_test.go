package respool

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// newBlanks makes the blanks of a pool of so many elements that are all out.
func newBlanks(elements int) (b *blanks, slots int) {
	b = new(blanks)
	slots = elements + b.init(elements)
	b.fill(make([]atomic.Uint64, slots+1), 1)
	return b, slots
}

// slots counts what is in the stocks and in rest.
func (b *blanks) slots() int {
	n := b.rest.depth()
	for i := range b.stocks {
		n += int(b.stocks[i].n)
	}
	return n
}

// No slot is lost, doubled or refused, whatever is taken and given at whichever processor.
func TestBlanksModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		elements := rapid.SampledFrom([]int{1, 2, 3, 10, 64, 100}).Draw(t, "elements")
		b, slots := newBlanks(elements)
		out := map[uint32]bool{}
		took := func(i uint32) {
			if i == 0 || int(i) > slots || out[i] {
				t.Fatalf("got slot %d, of %d, while %v are out", i, slots, out)
			}
			out[i] = true
		}
		some := func(n int) (list []uint32) {
			for i := range out {
				if len(list) < n {
					list = append(list, i)
					delete(out, i)
				}
			}
			return list
		}
		t.Repeat(map[string]func(*rapid.T){
			"get": func(t *rapid.T) {
				if len(out) < elements { // as many as there are elements to put
					took(b.get())
				}
			},
			"get many": func(t *rapid.T) {
				dst := make([]uint32, rapid.IntRange(1, min(chunk, elements)).Draw(t, "n"))
				if len(out)+len(dst) > elements {
					t.Skip("more than are out")
				}
				if !b.getMany(dst) {
					t.Fatalf("%d refused", len(dst))
				}
				for _, i := range dst {
					took(i)
				}
			},
			"put": func(t *rapid.T) {
				for _, i := range some(1) {
					b.put(i)
				}
			},
			"put many": func(t *rapid.T) {
				if list := some(rapid.IntRange(1, chunk).Draw(t, "n")); len(list) > 0 {
					b.putMany(list)
				}
			},
			"elsewhere": func(*rapid.T) { runtime.Gosched() },
			"": func(t *rapid.T) {
				if n := b.slots(); n != slots-len(out) {
					t.Fatalf("%d are in, %d out of %d", n, len(out), slots)
				}
			},
		})
	})
}

// Some goroutines only take what others only give, as one does that maps while another one
// unmaps: the stocks of the ones run full and those of the others empty.
func TestBlanksGoAround(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(procs)
	for _, elements := range []int{1, 7, 100} {
		runtime.GOMAXPROCS(2)
		b, slots := newBlanks(elements)
		runtime.GOMAXPROCS(4) // two have no stock
		way := make(chan uint32, elements)
		permits := make(chan struct{}, elements)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 10_000 {
					permits <- struct{}{}
					i := b.get()
					if i == 0 {
						t.Error("refused")
					}
					way <- i
				}
			})
			wg.Go(func() {
				for range 10_000 {
					b.put(<-way)
					<-permits
				}
			})
		}
		wg.Wait()
		if n := b.slots(); n != slots {
			t.Errorf("%d elements: %d slots of %d are left", elements, n, slots)
		}
	}
}

// Many processors do not make a small pool large.
func TestBlanksAreFew(t *testing.T) {
	procs := runtime.GOMAXPROCS(256)
	defer runtime.GOMAXPROCS(procs)
	for _, elements := range []int{0, 1, 10, 64, 1000, 1 << 16} {
		_, slots := newBlanks(elements)
		if most := elements + max(shares*elements, min(1, elements)*256); slots > most {
			t.Errorf("%d elements take %d slots, more than %d", elements, slots, most)
		}
	}
}

// More foreign elements than there are blanks are refused, and leave the blanks as they were; so they are
// once Close is over.
func TestForeignPutBeyondBlanks(t *testing.T) {
	v := newVault(t)
	p := open(t, v, Options{Low: 64, High: 64, Max: 64})
	r := reserve(t, p, 1)
	slots := p.blanks.slots()
	many := make([]int, slots+2*chunk)
	refused := func(want error) {
		t.Helper()
		if err := p.putBatch(many); !errors.Is(err, want) {
			t.Errorf("a batch of %d: %v, want %v", len(many), err, want)
		}
		var taken []uint32
		for i := p.blanks.get(); i != 0; i = p.blanks.get() {
			taken = append(taken, i)
		}
		for _, put := range []func(int) error{p.put, r.put} {
			if err := put(1); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		for _, i := range taken {
			p.blanks.put(i)
		}
		if n := p.blanks.slots(); n != slots {
			t.Errorf("%d blanks, before that %d", n, slots)
		}
	}
	refused(ErrForeign)
	if err := r.Return(); err != nil {
		t.Error(err)
	}
	end(t, p, v)
	refused(ErrClosed)
}

// A foreign Put is refused even where there are blanks enough.
func TestForeignPutDespiteBlanks(t *testing.T) {
	v := newVault(t)
	p := open(t, v, Options{Low: 4, Max: 100})
	es := get(t, p, 2)
	put(t, p, es...)
	for n := range 40 {
		if err := p.PutBatch(make([]int, n+1)); err == nil {
			t.Fatalf("%d foreign elements accepted: %+v", n+1, p.Stats())
		}
	}
	r := reserve(t, p, 3)
	if err := p.Put(99); err == nil {
		t.Error("a foreign element accepted while others are reserved")
	}
	if err := r.Return(); err != nil {
		t.Error(err)
	}
	if s := p.Stats(); s.Free < 4 || s.InUse != 0 {
		t.Errorf("%+v", s)
	}
	end(t, p, v)
}
