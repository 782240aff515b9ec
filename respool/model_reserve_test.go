package respool

import (
	"errors"

	"pgregory.net/rapid"
)

// contents is what r has: which of the free elements that is the model learns from its slots.
func contents(r *Reservation[int]) []int {
	var es []int
	at := uint64(r.first)
	for range r.n {
		es = append(es, r.p.elems[at])
		at = r.p.ready.links[at].Load() & indexMask
	}
	return es
}

func (m *model) which(t *rapid.T) *Reservation[int] {
	if len(m.rs) == 0 {
		t.Skip("no reservation")
	}
	return m.rs[rapid.IntRange(0, len(m.rs)-1).Draw(t, "reservation")]
}

// answer is what a reservation of n more must return.
func (m *model) answer(n int) error {
	switch {
	case n < 0 || n > m.o.Max:
		return ErrReserve
	case n == 0:
		return nil
	case m.shut:
		return ErrClosed
	case n > len(m.free):
		return ErrEmpty
	}
	return nil
}

// got moves what r has from free to reserved.
func (m *model) got(t *rapid.T, r *Reservation[int], n int) {
	if r.Len() != n || len(contents(r)) != n {
		t.Fatalf("the reservation has %d, not %d", r.Len(), n)
	}
	for _, e := range contents(r) {
		if !m.free[e] && !m.reserved[e] {
			t.Fatalf("%d is neither free nor reserved", e)
		}
		delete(m.free, e)
		m.reserved[e] = true
	}
}

func (m *model) reserve(t *rapid.T) {
	n := rapid.IntRange(-1, m.o.Max+1).Draw(t, "n")
	want := m.answer(n)
	if len(m.rs) > 0 && rapid.Bool().Draw(t, "add") {
		r := m.which(t)
		had := r.Len()
		err := r.Add(n)
		if !errors.Is(err, want) {
			t.Fatalf("Add(%d): %v, want %v", n, err, want)
		}
		if want != nil {
			n = 0
		}
		m.got(t, r, had+n)
		return
	}
	r, err := m.p.Reserve(n)
	if !errors.Is(err, want) || (r == nil) != (want != nil) {
		t.Fatalf("Reserve(%d): %v, want %v", n, err, want)
	}
	if r != nil {
		m.got(t, r, n)
		m.rs = append(m.rs, r)
	}
}

func (m *model) reserveAll(t *rapid.T) {
	a, b := m.which(t), m.which(t)
	na, nb := rapid.IntRange(0, 8).Draw(t, "a"), rapid.IntRange(0, 8).Draw(t, "b")
	hadA, hadB := a.Len(), b.Len()
	want := m.answer(na + nb)
	err := ReserveAll(a.Need(na), b.Need(nb))
	if !errors.Is(err, want) {
		t.Fatalf("ReserveAll(%d, %d): %v, want %v", na, nb, err, want)
	}
	if want != nil {
		na, nb = 0, 0
	}
	if a == b {
		m.got(t, a, hadA+na+nb)
		return
	}
	m.got(t, a, hadA+na)
	m.got(t, b, hadB+nb)
}

func (m *model) draw(t *rapid.T) {
	r := m.which(t)
	had := r.Len()
	e, err := r.Get()
	if had == 0 {
		if !errors.Is(err, ErrSpent) {
			t.Fatalf("Get of nothing: %v", err)
		}
		return
	}
	if err != nil || !m.reserved[e] || r.Len() != had-1 {
		t.Fatalf("Get: %d, %v; it had %d", e, err, had)
	}
	delete(m.reserved, e)
	m.out = append(m.out, e)
}

func (m *model) putReserved(t *rapid.T) {
	r := m.which(t)
	if len(m.out) == 0 {
		t.Skip("nothing is out")
	}
	k := rapid.IntRange(0, len(m.out)-1).Draw(t, "which")
	err := r.Put(m.out[k])
	if m.shut {
		if !errors.Is(err, ErrClosed) {
			t.Fatalf("Put after Close: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	m.reserved[m.out[k]] = true
	m.out = append(m.out[:k], m.out[k+1:]...)
}

func (m *model) split(t *rapid.T) {
	r := m.which(t)
	n, had := rapid.IntRange(-1, 8).Draw(t, "n"), r.Len()
	s, err := r.Split(n)
	if n < 0 || n > had {
		if s != nil || !errors.Is(err, ErrSpent) || r.Len() != had {
			t.Fatalf("Split(%d) of %d: %v, %v", n, had, s, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	m.got(t, s, n)
	m.got(t, r, had-n)
	m.rs = append(m.rs, s)
}

func (m *model) giveBack(t *rapid.T) {
	r := m.which(t)
	es := contents(r)
	err := r.Return()
	if m.shut && len(es) > 0 {
		if !errors.Is(err, ErrClosed) || r.Len() != len(es) {
			t.Fatalf("Return after Close: %v", err)
		}
		return
	}
	if err != nil || r.Len() != 0 {
		t.Fatalf("Return: %v, %d are left", err, r.Len())
	}
	for _, e := range es {
		delete(m.reserved, e)
		m.free[e] = true
	}
}
