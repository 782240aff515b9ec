package nosleep

import (
	"fmt"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
)

// A why is why a function is not clean: a fault of its own, or a call.
type why struct {
	fault *fault
	edge  *edge
}

// infer finds what each function that is not marked may do. Functions that call each other in a circle are clean
// if nothing in it is not.
func (c *checker) infer() {
	for _, f := range c.funcs {
		for i := range f.faults {
			if x := &f.faults[i]; *f.why(x.class) == nil {
				*f.why(x.class) = &why{fault: x}
			}
		}
	}
	for again := true; again; {
		again = false
		for _, f := range c.funcs {
			for i := range f.edges {
				e := &f.edges[i]
				for _, class := range e.classes() {
					if *f.why(class) == nil && *e.to.why(class) != nil {
						*f.why(class), again = &why{edge: e}, true
					}
				}
			}
		}
	}
}

func (f *function) why(class class) **why {
	if class == waits {
		return &f.waits
	}
	return &f.allocs
}

// classes are what counts of the faults of the function that is called.
func (e *edge) classes() []class {
	if e.exempt {
		return []class{waits}
	}
	return []class{waits, allocates}
}

// cause is why f is not clean, nil if it is. A marked one is clean: what breaks its promise is reported where
// it is.
func (c *checker) cause(f *function, class class) *Cause {
	if f.mark == nosleep || f.mark == refusal {
		return nil
	}
	var names []string
	for seen := map[*function]bool{}; !seen[f]; {
		seen[f] = true
		w := *f.why(class)
		if w == nil {
			return nil
		}
		if w.fault != nil {
			p := c.pass.Fset.PositionFor(w.fault.pos, false)
			return &Cause{Chain: names, What: w.fault.what, Remedy: w.fault.remedy, At: fmt.Sprintf("%s:%d", filepath.Base(p.Filename), p.Line)}
		}
		f = w.edge.to
		names = append(names, f.name())
	}
	return nil
}

// report tells what breaks the promises of marked functions, and which trusts nothing needs.
func (c *checker) report() {
	type line struct {
		place
		text string
	}
	said := map[line]bool{}
	say := func(pos token.Pos, text string) {
		if l := (line{c.place(pos), text}); !said[l] {
			said[l] = true
			c.reportf(pos, "%s", text)
		}
	}
	for _, f := range c.funcs {
		if f.mark == unmarked {
			continue
		}
		for _, x := range f.faults {
			if f.mark == nosleep || x.class == waits {
				say(x.pos, fmt.Sprintf("%s function %s %s: %s", f.mark, f.name(), x.what, x.remedy))
			}
		}
		for i := range f.edges {
			e := &f.edges[i]
			for _, class := range e.classes() {
				if f.mark == refusal && class == allocates {
					continue
				}
				if cause := c.cause(e.to, class); cause != nil {
					say(e.pos, fmt.Sprintf("%s function %s calls %s: %s", f.mark, f.name(), cause.by(e.to.name()), cause.Remedy))
					break // what it allocates matters when it waits for nothing any more
				}
			}
		}
	}
	for _, t := range c.dir.trusts {
		if !t.used {
			c.reportf(t.pos, "//gommu:trust is not needed here: remove it")
		}
	}
}

// chain is a line of calls, with the middle of a long one left out.
func chain(names []string) string {
	const most = 8
	if len(names) > most {
		names = append(append(names[:most/2:most/2], "..."), names[len(names)-most/2:]...)
	}
	return strings.Join(names, " -> ")
}

// by is the cause with the calls that lead to it, of which the first is name.
func (c *Cause) by(name string) string {
	at := ""
	if c.At != "" {
		at = " (" + c.At + ")"
	}
	return chain(append([]string{name}, c.Chain...)) + ", which " + c.What + at
}

// name is how messages call the function.
func (f *function) name() string {
	if f.obj != nil {
		return methodName(f.obj)
	}
	in := f.fn
	for in.Parent() != nil {
		in = in.Parent()
	}
	name := "a variable's initial value"
	if obj, ok := in.Object().(*types.Func); ok {
		name = methodName(obj)
	}
	if f.fn.Synthetic != "" && strings.Contains(f.fn.Synthetic, "range") {
		return "a loop's body in " + name
	}
	return "a function literal in " + name
}

// methodName is the name of a function, or T.M.
func methodName(obj *types.Func) string {
	if k := key(obj); k != "" {
		return k
	}
	return obj.Name()
}

func qualified(obj *types.Func) string { return obj.Pkg().Name() + "." + methodName(obj) }
