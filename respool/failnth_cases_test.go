package respool_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"gommu/respool"
)

// failCases are the calls of TestFailNthEverywhere. Each gives back what it takes. One that is nil
// touches no pool.
var failCases = map[string]func(*scene){
	"New": (*scene).newPool, "Pool.Close": (*scene).closePool,
	"OpError.Error": nil, "OpError.Unwrap": nil, "Class.String": nil,
	"BeginNoSleep": nil, "NoSleep.End": nil, "Kind.String": nil, "Report.String": nil,

	"Pool.Get": func(s *scene) { s.still(func() { s.get(s.p.Get, s.p.Put) }) },
	"Pool.Put": func(s *scene) {
		s.still(func() { s.get(s.p.Get, s.p.Put) })
		if len(s.held) == 0 {
			s.still(func() { s.is(s.p.Put(12345), respool.ErrForeign) })
		}
	},
	"Pool.GetBatch": func(s *scene) { s.still(func() { s.getBatch(s.p.GetBatch, s.p.PutBatch) }) },
	"Pool.PutBatch": func(s *scene) {
		s.still(func() { s.getBatch(s.p.GetBatch, s.p.PutBatch) })
		s.still(func() { s.is(s.p.PutBatch(make([]int, sceneMax+1)), respool.ErrForeign) })
	},
	"Pool.GetWait": func(s *scene) {
		var e int
		if s.waits(1, func(ctx context.Context) (err error) { e, err = s.p.GetWait(ctx); return }) {
			s.must(s.p.Put(e))
		}
	},
	"Pool.Wait":     func(s *scene) { s.waits(1, s.p.Wait) },
	"Pool.Returned": (*scene).returned,
	"Pool.Forecast": func(s *scene) { s.still(func() { s.p.Forecast() }) },
	"Pool.Stats":    func(s *scene) { s.still(func() { s.p.Stats() }) },

	"Pool.Reserve": func(s *scene) {
		for _, n := range []int{0, 1, 3, sceneMax} {
			s.still(func() { s.reserve(n, func(*respool.Reservation[int]) {}) })
		}
		_, err := s.p.Reserve(sceneMax + 1)
		s.is(err, respool.ErrReserve)
	},
	"Pool.ReserveWait": func(s *scene) {
		var r *respool.Reservation[int]
		if s.waits(2, func(ctx context.Context) (err error) { r, err = s.p.ReserveWait(ctx, 2); return }) {
			s.drawAll(r, 2)
		}
	},
	"Pool.As":    func(s *scene) { s.still(func() { s.get(s.critical().Get, s.p.Put) }) },
	"Access.Get": func(s *scene) { s.still(func() { s.get(s.critical().Get, s.p.Put) }) },
	"Access.GetBatch": func(s *scene) {
		s.still(func() { s.getBatch(s.critical().GetBatch, s.p.PutBatch) })
	},
	"Access.GetWait": func(s *scene) {
		var e int
		if s.waits(1, func(ctx context.Context) (err error) { e, err = s.critical().GetWait(ctx); return }) {
			s.must(s.p.Put(e))
		}
	},
	"Access.NewCache": func(s *scene) {
		s.still(func() {
			c := s.critical().NewCache(4)
			s.getCached(c, 7)
			s.must(c.Close())
		})
	},
	"Access.Reserve": func(s *scene) {
		s.still(func() {
			var r *respool.Reservation[int]
			if s.takes(3, func() (err error) { r, err = s.critical().Reserve(3); return }) {
				s.drawAll(r, 3)
			}
		})
	},
	"Access.ReserveWait": func(s *scene) {
		var r *respool.Reservation[int]
		if s.waits(2, func(ctx context.Context) (err error) { r, err = s.critical().ReserveWait(ctx, 2); return }) {
			s.drawAll(r, 2)
		}
	},
	"Reservation.Add": func(s *scene) {
		s.still(func() {
			s.reserve(1, func(r *respool.Reservation[int]) {
				if s.takes(2, func() error { return r.Add(2) }) {
					s.drawAll(r, 3)
				}
			})
		})
	},
	"Reservation.Get": func(s *scene) {
		s.still(func() { s.reserve(2, func(r *respool.Reservation[int]) { s.drawAll(r, 2) }) })
	},
	"Reservation.Len":    func(s *scene) { s.still(func() { s.reserve(2, func(*respool.Reservation[int]) {}) }) },
	"Reservation.Put":    func(s *scene) { s.still(func() { s.get(s.promise.Get, s.promise.Put) }) },
	"Reservation.Return": func(s *scene) { s.still(func() { s.reserve(2, func(*respool.Reservation[int]) {}) }) },
	"Reservation.Split": func(s *scene) {
		s.still(func() {
			s.reserve(3, func(r *respool.Reservation[int]) {
				half, err := r.Split(2)
				s.must(err)
				s.drawAll(half, 2)
				_, err = r.Split(2)
				s.is(err, respool.ErrSpent)
			})
		})
	},
	"Reservation.Need": func(s *scene) { s.still(s.reserveAll) },
	"ReserveAll":       func(s *scene) { s.still(s.reserveAll) },
	"ReserveAllWait": func(s *scene) {
		a, b := s.empty(), s.empty()
		if s.waits(3, func(ctx context.Context) error { return respool.ReserveAllWait(ctx, a.Need(2), b.Need(1)) }) {
			s.drawAll(a, 2)
			s.drawAll(b, 1)
		}
	},

	"Pool.NewCache": func(s *scene) { s.cache(func(*respool.Cache[int]) {}) },
	"Cache.Len":     func(s *scene) { s.cache(func(c *respool.Cache[int]) { s.getCached(c, 2) }) },
	"Cache.Flush": func(s *scene) {
		s.cache(func(c *respool.Cache[int]) { s.getCached(c, 2); s.must(c.Flush()) })
	},
	"Cache.Close": func(s *scene) {
		s.cache(func(c *respool.Cache[int]) {
			s.getCached(c, 2)
			s.must(c.Close())
			_, err := c.Get()
			s.is(err, respool.ErrCacheClosed)
		})
	},
	"Cache.Get":      func(s *scene) { s.cache(func(c *respool.Cache[int]) { s.getCached(c, 1) }) },
	"Cache.Put":      func(s *scene) { s.cache(func(c *respool.Cache[int]) { s.getCached(c, 7) }) },
	"Cache.GetBatch": func(s *scene) { s.cache(func(c *respool.Cache[int]) { s.getBatchCached(c, 3) }) },
	"Cache.PutBatch": func(s *scene) { s.cache(func(c *respool.Cache[int]) { s.getBatchCached(c, 6) }) },
}

func (s *scene) critical() respool.Access[int] { return s.p.As(respool.Critical) }

func (s *scene) is(err, want error) {
	s.t.Helper()
	if !errors.Is(err, want) {
		s.errorf("%v, wanted %v", err, want)
	}
}

func (s *scene) get(get func() (int, error), put func(int) error) {
	before := s.state()
	e, err := get()
	if err != nil {
		if before.free > 0 || !errors.Is(err, respool.ErrEmpty) {
			s.errorf("%d free: %v", before.free, err)
		}
		return
	}
	s.must(put(e))
}

func (s *scene) getBatch(get, put func([]int) error) {
	for _, n := range []int{1, 3, sceneMax} {
		buf := make([]int, n)
		if s.takes(n, func() error { return get(buf) }) {
			s.must(put(buf))
		} else if slices.Max(buf) != 0 {
			s.errorf("refused, but wrote %v", buf)
		}
	}
}

func (s *scene) empty() *respool.Reservation[int] {
	r, err := s.p.Reserve(0)
	s.must(err)
	return r
}

// reserve calls use with a reservation of n if it can be had, and returns what is left of it.
func (s *scene) reserve(n int, use func(*respool.Reservation[int])) {
	var r *respool.Reservation[int]
	if s.takes(n, func() (err error) { r, err = s.p.Reserve(n); return }) {
		if r.Len() != n {
			s.errorf("a reservation of %d has %d", n, r.Len())
		}
		use(r)
		s.must(r.Return())
	}
}

// drawAll draws the n elements of r, which cannot fail, and gives them back to all.
func (s *scene) drawAll(r *respool.Reservation[int], n int) {
	for range n {
		e, err := r.Get()
		s.must(err)
		s.must(s.p.Put(e))
	}
	_, err := r.Get()
	s.is(err, respool.ErrSpent)
}

func (s *scene) reserveAll() {
	a, b := s.empty(), s.empty()
	if s.takes(3, func() error { return respool.ReserveAll(b.Need(2), a.Need(1)) }) {
		s.drawAll(a, 1)
		s.drawAll(b, 2)
	}
}

// cache calls use with a cache, which keeps nothing afterwards.
func (s *scene) cache(use func(*respool.Cache[int])) {
	s.still(func() {
		c := s.p.NewCache(4)
		use(c)
		s.must(c.Close())
		if c.Len() != 0 {
			s.errorf("%d are left in the cache", c.Len())
		}
	})
}

// getCached gets n elements through c, or as many as are free, and puts them.
func (s *scene) getCached(c *respool.Cache[int], n int) {
	var got []int
	free := s.state().free
	for range n {
		e, err := c.Get()
		if err == nil {
			got = append(got, e)
		} else {
			s.is(err, respool.ErrEmpty)
		}
	}
	if len(got) != min(n, free) {
		s.errorf("%d were free, %d got, %d asked for", free, len(got), n)
	}
	for _, e := range got {
		s.must(c.Put(e))
	}
	s.sum(c)
}

func (s *scene) getBatchCached(c *respool.Cache[int], n int) {
	free := s.state().free
	buf := make([]int, n)
	err := c.GetBatch(buf)
	switch {
	case err == nil:
		s.must(c.PutBatch(buf))
	case free >= n || !errors.Is(err, respool.ErrEmpty):
		s.errorf("%d were free, %d asked for: %v", free, n, err)
	}
	s.sum(c)
}

// sum checks that what is not the scene's is in the cache, in the pool or promised.
func (s *scene) sum(c *respool.Cache[int]) {
	if st := s.p.Stats(); st.InUse+st.Cached != len(s.held)+c.Len() {
		s.errorf("%d held, %d in the cache", len(s.held), c.Len())
	}
}

// elsewhere is how many elements of the source are not in the scene's pool, whose worker may have
// used the time.
func (s *scene) elsewhere() int {
	synctest.Wait()
	st := s.p.Stats()
	return s.f.Outstanding() - st.Free - st.InUse - st.Cached - st.Reserved
}

// newPool makes a pool over the scene's source, whose faults hit New, and closes it.
func (s *scene) newPool() {
	lost := s.f.Lost()
	p, err := respool.New(s.t.Context(), s.f, sceneOptions())
	switch {
	case err == nil:
		s.closed(p)
	case !errors.Is(err, respool.ErrNoMemory):
		s.errorf("New: %v", err)
	case (s.f.Lost() > lost) != errors.Is(err, respool.ErrFree):
		s.errorf("New: %v, %d lost", err, s.f.Lost()-lost)
	}
	if n := s.elsewhere(); n != 0 {
		s.errorf("New: %v, %d leaked", err, n)
	}
}

// closed closes p, of which nothing is out.
func (s *scene) closed(p *respool.Pool[int]) {
	lost := s.f.Lost()
	err := closeSoon(p)
	if lost = s.f.Lost() - lost; (lost > 0) != errors.Is(err, respool.ErrFree) || lost == 0 && err != nil {
		s.errorf("Close: %v, %d lost", err, lost)
	}
	s.must(closeSoon(p))
}

// closePool gives up closing a pool that has elements out, and closes it again.
func (s *scene) closePool() {
	p, err := respool.New(s.t.Context(), s.f, sceneOptions())
	if err != nil {
		return // see newPool
	}
	e, err := p.Get()
	s.must(err)
	ended, cancel := context.WithCancel(s.t.Context())
	cancel()
	s.is(p.Close(ended), respool.ErrLeaked)
	s.is(p.Put(e), respool.ErrClosed)
	again := make(chan error, 1)
	lost := s.f.Lost()
	go func() { again <- closeSoon(p) }()
	synctest.Wait()
	s.must(p.Put(e))
	if err := <-again; (s.f.Lost() > lost) != errors.Is(err, respool.ErrFree) {
		s.errorf("Close: %v, %d lost", err, s.f.Lost()-lost)
	}
	if n := s.elsewhere(); n != 0 {
		s.errorf("Close leaked %d", n)
	}
}

// returned waits for the token that follows an answer of ErrEmpty.
func (s *scene) returned() {
	e, err := s.p.Get()
	if err == nil {
		s.must(s.p.Put(e))
		return
	}
	s.waits(1, func(ctx context.Context) error {
		select {
		case <-s.p.Returned():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// exportedFuncs are the exported functions and methods of the package, in all its files.
func exportedFuncs(t *testing.T) (names []string) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range tree.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.IsExported() {
				if recv := receiver(f); ast.IsExported(recv) {
					names = append(names, recv+"."+f.Name.Name)
				} else if recv == "" {
					names = append(names, f.Name.Name)
				}
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// receiver is the name of the type that f is a method of.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	at := f.Recv.List[0].Type
	if star, ok := at.(*ast.StarExpr); ok {
		at = star.X
	}
	switch of := at.(type) {
	case *ast.IndexExpr:
		at = of.X
	case *ast.IndexListExpr:
		at = of.X
	}
	return at.(*ast.Ident).Name
}
