//go:build debug

package respool

import (
	"math"
	"reflect"
	"strings"
	"testing"
)

// keyOf is the key of e in a pool of T.
func keyOf[T any](e T) key {
	return identityOf(reflect.TypeFor[T]())(reflect.ValueOf(&e).Elem())
}

func TestIdentity(t *testing.T) {
	type plain struct {
		serial uint64
		_      [0]int
		name   string
	}
	type owned struct { // comparable, with the same pointer in all
		pool *int
		id   int
	}
	type buffer struct {
		used float64
		mem  []byte
	}
	type nested struct {
		_    func()
		both [2]buffer
	}
	type boxed struct {
		_   func()
		box any
	}
	x, y := new(int), new(int)
	mem := make([]byte, 8)
	ch, m := make(chan int), map[string]int{}
	none := key(alike{})
	for name, c := range map[string]struct {
		a, b key
		same bool
	}{
		"numbers":              {keyOf(1), keyOf(2), false},
		"equal numbers":        {keyOf(1), keyOf(1), true},
		"strings":              {keyOf("a"), keyOf("b"), false},
		"structs":              {keyOf(plain{serial: 1}), keyOf(plain{serial: 2}), false},
		"equal structs":        {keyOf(plain{1, [0]int{}, "a"}), keyOf(plain{1, [0]int{}, "a"}), true},
		"one pool, two ids":    {keyOf(owned{x, 1}), keyOf(owned{x, 2}), false},
		"pointers":             {keyOf(x), keyOf(y), false},
		"a pointer":            {keyOf(x), keyOf(x), true},
		"unsafe pointers":      {keyOf(reflect.ValueOf(x).UnsafePointer()), keyOf(reflect.ValueOf(y).UnsafePointer()), false},
		"a nil pointer":        {keyOf[*int](nil), none, true},
		"channels":             {keyOf(ch), keyOf(make(chan int)), false},
		"maps":                 {keyOf(m), keyOf(map[string]int{}), false},
		"a map":                {keyOf(m), keyOf(m), true},
		"a slice and its part": {keyOf(mem), keyOf(mem[:2]), true},
		"slices":               {keyOf(mem), keyOf(mem[2:]), false},
		"empty slices":         {keyOf([]byte{}), none, true},
		"buffers":              {keyOf(buffer{1, mem}), keyOf(buffer{2, mem[:3]}), true},
		"two buffers":          {keyOf(buffer{1, mem}), keyOf(buffer{1, mem[1:]}), false},
		"nested":               {keyOf(nested{both: [2]buffer{{mem: mem}}}), keyOf(nested{both: [2]buffer{{mem: mem[1:]}}}), false},
		"arrays of slices":     {keyOf([2][]byte{mem}), keyOf([2][]byte{mem[1:]}), false},
		"what any holds":       {keyOf[any](mem), keyOf[any](mem[1:]), false},
		"different types":      {keyOf[any](1), keyOf[any]("1"), false},
		"an empty any":         {keyOf[any](nil), none, true},
		"a box":                {keyOf(boxed{box: x}), keyOf(boxed{box: y}), false},
		"a box of a number":    {keyOf(boxed{box: 1}), none, true},
		"NaN":                  {keyOf(math.NaN()), none, true},
		"floats":               {keyOf(1.0), keyOf(2.0), true},
		"structs of floats":    {keyOf(struct{ a, b float64 }{}), none, true},
		"functions":            {keyOf(func() {}), none, true},
		"no field":             {keyOf(struct{}{}), keyOf(struct{}{}), true},
		"no element":           {keyOf([0][]byte{}), none, true},
	} {
		if (c.a == c.b) != c.same {
			t.Errorf("%s: %v and %v: equal: %v", name, c.a, c.b, !c.same)
		}
	}
	for k, want := range map[key]string{
		keyOf(7): "int(7)", keyOf(x): "*int at 0x", keyOf(plain{serial: 3}): "serial:0x3", none: "nothing tells apart",
		keyOf(strings.Repeat("a", 500)): "aaa...",
	} {
		if text := elementText(k); !strings.Contains(text, want) || len(text) > maxElementText+3 {
			t.Errorf("%q, want %q", text, want)
		}
	}
}
