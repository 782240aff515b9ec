// Package generics has type parameters. // want package:"nosleep"
package generics

import "cmp"

var (
	ch   = make(chan int)
	sink []byte
)

type pool[T any] struct {
	elems []T
	done  func(T) //gommu:nosleep
	n     int
}

//gommu:nosleep
func (p *pool[T]) Get() (T, bool) {
	var none T
	if p.n == 0 {
		return none, false
	}
	p.n--
	return p.elems[p.n], p.check()
}

func (p *pool[T]) check() bool { return p.n >= 0 }

func (p *pool[T]) wait() { ch <- p.n }

//gommu:nosleep
func (p *pool[T]) Put(e T) {
	p.elems[p.n] = e
	p.done(e)
	p.wait() // want `nosleep function pool.Put calls pool.wait, which sends on a channel`
}

//gommu:nosleep
func use(p *pool[int], q *pool[string]) {
	_, _ = p.Get()
	p.check()
	q.wait() // want `use calls pool.wait, which sends on a channel`
	f := p.wait
	f() // want `use calls pool.wait, which sends on a channel`
	_ = largest(1, 2)
	_ = largest("a", "b")
	_ = sends(1)          // want `use calls sends, which sends on a channel`
	_ = sends[string]("") // want `use calls sends, which sends on a channel`
}

func largest[T cmp.Ordered](a, b T) T { return max(a, b) }

func sends[T any](v T) T { ch <- 1; return v }

//gommu:nosleep
func boxes[T any](v T) any {
	return v // want `puts a T into an interface`
}

//gommu:nosleep
func boxesSizer[T sizer](v T) interface{ Size() int } {
	return v // want `puts a T into an interface`
}

//gommu:nosleep
func joins[T ~string | ~int](a, b T) T {
	return a + b // want `joins strings`
}

//gommu:nosleep
func adds[T ~uint8 | ~int](a, b T) T { return a + b }

//gommu:nosleep
func bytesOf[T ~string | ~[]byte](v T) {
	sink = []byte(v) // want `converts to \[\]byte`
	_ = len(v)
}

//gommu:nosleep
func allocates[T any]() *T {
	return new(T) // want `allocates a T, which outlives the call`
}

type sizer interface {
	//gommu:nosleep
	Size() int
	Wait()
}

//gommu:nosleep
func methods[T sizer](v T) int {
	v.Wait() // want `calls sizer.Wait of a type parameter, which can be anything`
	return v.Size()
}

type good struct{}

//gommu:nosleep
func (good) Size() int { return 1 }
func (good) Wait()     {}

type bad struct{}

func (bad) Size() int { return <-ch }
func (bad) Wait()     {}

type holder[T sizer] struct{ v T }

func instances() {
	_ = methods(good{})
	_ = methods(bad{}) // want `bad becomes sizer, whose method Size never sleeps, but bad.Size is not marked so`
	_ = holder[good]{}
	_ = holder[bad]{} // want `bad becomes sizer`
}

func passes[T sizer](v T) int { return methods(v) }

func loses[T interface {
	Size() int
	Wait()
}](v T) int {
	return methods(v) // want `T becomes sizer, whose method Size never sleeps`
}

type source[T any] interface {
	//gommu:nosleep
	Next() T
}

type numbers struct{}

func (numbers) Next() int { return 1 }

//gommu:nosleep
func next(s source[int]) int { return s.Next() }

func convert() source[int] {
	return numbers{} // want `numbers becomes source\[int\], whose method Next never sleeps, but numbers.Next is not marked so`
}

func stores(p *pool[int]) {
	p.done = func(int) {}
	p.done = func(n int) { ch <- n } // want `the field pool.done never sleeps`
}
