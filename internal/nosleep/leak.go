package nosleep

import (
	"go/types"

	"golang.org/x/tools/go/ssa"
)

// A leak is what becomes of a pointer that a function is called with. It is a rougher picture than the
// compiler's: what is said to stay here stays for the compiler too.
type leak uint32

const (
	leakSelf    leak = 1 << iota // it is kept, or given to who may keep it
	leakContent                  // so is what it points to, at whatever remove
	leakAny          = leakSelf | leakContent

	selfBit    = 2  // from here on, by result: it is returned
	contentBit = 17 // so is what it points to
	maxResults = 15 // told apart; the rest are one

	selfOut    leak = (1<<maxResults - 1) << selfBit
	contentOut leak = (1<<maxResults - 1) << contentBit
)

// selfAs says that the pointer is returned as the ith result, contentAs that what it points to is.
func selfAs(i int) leak    { return 1 << (selfBit + min(i, maxResults-1)) }
func contentAs(i int) leak { return 1 << (contentBit + min(i, maxResults-1)) }

// leakAll finds what all functions do with their parameters.
func (c *checker) leakAll() {
	for _, f := range c.funcs {
		if len(f.fn.Blocks) == 0 {
			c.leakBodiless(f)
		}
	}
	for again := true; again; {
		again = false
		for _, f := range c.funcs {
			for i, p := range f.fn.Params {
				if len(f.fn.Blocks) == 0 || !pointers(p.Type()) || f.leaks[i]&leakAny == leakAny {
					continue
				}
				w := flow{c: c, source: p}
				if l := w.follow() | f.leaks[i]; l != f.leaks[i] {
					f.leaks[i], again = l, true
				}
			}
		}
	}
}

func (c *checker) leakBodiless(f *function) {
	e, ok := listed(f.obj)
	for i := range f.leaks {
		switch {
		case ok:
			f.leaks[i] = at(e.leaks, i)
		case !c.dir.noescape[f.obj]:
			f.leaks[i] = leakAny
		}
	}
}

// at is the ith of leaks, of which the last one stands for the rest. None are no leaks.
func at(leaks []leak, i int) leak {
	if len(leaks) == 0 {
		return 0
	}
	return leaks[min(i, len(leaks)-1)]
}

// leakOf is what the function fn does with its ith argument.
func (c *checker) leakOf(fn ssa.Value, i int) leak {
	targets := c.resolve(fn, nil)
	if len(targets) != 1 || targets[0].fn == nil {
		return leakAny
	}
	callee := targets[0].fn
	i += len(arguments(callee, nil))
	if f := c.lookup(callee); f != nil {
		return f.leaks[i]
	}
	if obj, ok := callee.Object().(*types.Func); ok {
		if v, ok := c.verdict(obj.Origin()); ok {
			if e, fixed := listed(obj); fixed {
				if e.refused {
					return leakAny
				}
				return at(v.Leaks, i)
			}
			if i < len(v.Leaks) {
				return v.Leaks[i]
			}
		}
	}
	return leakAny
}
