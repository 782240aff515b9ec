package nosleep

import (
	"go/token"
	"go/types"

	"golang.org/x/tools/go/ssa"
)

var anything = []target{{}}

// resolve is what the value of a function may be. Parameters stand for themselves: who calls a function that
// calls its parameter answers for what he hands it.
func (c *checker) resolve(v ssa.Value, seen map[ssa.Value]bool) []target {
	if seen == nil {
		seen = map[ssa.Value]bool{}
	}
	if seen[v] {
		return nil
	}
	seen[v] = true
	if n := named(v.Type()); n != nil && c.marked(n.Obj()) {
		return []target{{marked: true, known: true}}
	}
	switch v := v.(type) {
	case *ssa.Function:
		return []target{{fn: v, known: true}}
	case *ssa.MakeClosure:
		return []target{{fn: v.Fn.(*ssa.Function), known: true}}
	case *ssa.Parameter:
		return []target{{param: v, known: true}}
	case *ssa.Const: // nil, which cannot be called
		return nil
	case *ssa.ChangeType:
		return c.resolve(v.X, seen)
	case *ssa.Phi:
		var all []target
		for _, e := range v.Edges {
			all = append(all, c.resolve(e, seen)...)
		}
		return all
	case *ssa.Field:
		if c.fieldMarked(v.X.Type(), v.Field) {
			return []target{{marked: true, known: true}}
		}
	case *ssa.UnOp:
		if v.Op == token.MUL {
			return c.loaded(v.X, seen)
		}
	case *ssa.Call:
		return c.returned(v, seen)
	}
	return anything
}

// loaded is what resolve finds at an address.
func (c *checker) loaded(addr ssa.Value, seen map[ssa.Value]bool) []target {
	switch a := addr.(type) {
	case *ssa.FieldAddr:
		if c.fieldMarked(a.X.Type().Underlying().(*types.Pointer).Elem(), a.Field) {
			return []target{{marked: true, known: true}}
		}
	case *ssa.Alloc:
		return c.stored(a, seen)
	case *ssa.FreeVar:
		var all []target
		for _, b := range bindings(a) {
			all = append(all, c.loaded(b, seen)...)
		}
		return all
	}
	return anything
}

// stored is what was ever stored in a variable, if that is all that is done to it.
func (c *checker) stored(a ssa.Value, seen map[ssa.Value]bool) []target {
	if seen[a] {
		return nil
	}
	seen[a] = true
	var all []target
	for _, r := range *a.Referrers() {
		switch r := r.(type) {
		case *ssa.Store:
			if r.Val == a {
				return anything
			}
			all = append(all, c.resolve(r.Val, seen)...)
		case *ssa.UnOp, *ssa.DebugRef:
		case *ssa.MakeClosure:
			for i, b := range r.Bindings {
				if b == a {
					all = append(all, c.stored(r.Fn.(*ssa.Function).FreeVars[i], seen)...)
				}
			}
		default:
			return anything
		}
	}
	return all
}

// returned is what a function of this package that makes functions returns.
func (c *checker) returned(call *ssa.Call, seen map[ssa.Value]bool) []target {
	callee := call.Call.StaticCallee()
	if callee == nil {
		return anything
	}
	f := c.lookup(callee)
	if f == nil || len(f.fn.Blocks) == 0 || f.fn.Signature.Results().Len() != 1 {
		return anything
	}
	var all []target
	for _, b := range f.fn.Blocks {
		if r, ok := b.Instrs[len(b.Instrs)-1].(*ssa.Return); ok && len(r.Results) == 1 {
			for _, t := range c.resolve(r.Results[0], seen) {
				if t.param != nil { // of another call than the one that is looked at
					return anything
				}
				all = append(all, t)
			}
		}
	}
	return all
}

// bindings are the variables that v, which a literal has from the function around it, may be.
func bindings(v *ssa.FreeVar) (all []ssa.Value) {
	fn := v.Parent()
	if fn.Parent() == nil {
		return nil
	}
	for _, b := range fn.Parent().Blocks {
		for _, instr := range b.Instrs {
			if m, ok := instr.(*ssa.MakeClosure); ok && m.Fn == fn {
				for i, fv := range fn.FreeVars {
					if fv == v {
						all = append(all, m.Bindings[i])
					}
				}
			}
		}
	}
	return all
}

// fieldMarked says that the ith field of the struct type t is marked.
func (c *checker) fieldMarked(t types.Type, i int) bool {
	s, ok := t.Underlying().(*types.Struct)
	if !ok {
		return false
	}
	return c.markedField(named(t), s.Field(i))
}
