package nosleep

import (
	"go/token"
	"go/types"

	"golang.org/x/tools/go/ssa"
)

func isMap(t types.Type) bool   { _, ok := t.Underlying().(*types.Map); return ok }
func isSlice(t types.Type) bool { _, ok := t.Underlying().(*types.Slice); return ok }
func isFunc(t types.Type) bool  { _, ok := t.Underlying().(*types.Signature); return ok }

func isString(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsString != 0
}

func isInteger(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsInteger != 0
}

func isTypeParam(t types.Type) bool { _, ok := types.Unalias(t).(*types.TypeParam); return ok }

// mayBe says that is holds for t or, if that is a type parameter, for a type that it may stand for.
func mayBe(t types.Type, is func(types.Type) bool) bool {
	p, ok := types.Unalias(t).(*types.TypeParam)
	if !ok {
		return is(t)
	}
	return anyTerm(p.Constraint().Underlying().(*types.Interface), is, 0)
}

func anyTerm(i *types.Interface, is func(types.Type) bool, depth int) bool {
	if i.NumEmbeddeds() == 0 || depth > 10 {
		return true // any type at all
	}
	for e := range i.EmbeddedTypes() {
		switch e := types.Unalias(e).(type) {
		case *types.Union:
			for t := range e.Terms() {
				if u, ok := t.Type().Underlying().(*types.Interface); ok && anyTerm(u, is, depth+1) || !ok && is(t.Type()) {
					return true
				}
			}
		default:
			if u, ok := e.Underlying().(*types.Interface); ok && u.NumExplicitMethods() == 0 && anyTerm(u, is, depth+1) || !ok && is(e) {
				return true
			}
		}
	}
	return false
}

// pointers says that a t may hold pointers.
func pointers(t types.Type) bool {
	switch u := types.Unalias(t).(type) {
	case *types.TypeParam:
		return true
	case *types.Tuple:
		for v := range u.Variables() {
			if pointers(v.Type()) {
				return true
			}
		}
		return false
	}
	switch u := t.Underlying().(type) {
	case *types.Basic:
		return u.Kind() == types.UnsafePointer || u.Info()&types.IsString != 0
	case *types.Struct:
		for f := range u.Fields() {
			if pointers(f.Type()) {
				return true
			}
		}
		return false
	case *types.Array:
		return u.Len() > 0 && pointers(u.Elem())
	}
	return true
}

// live is the blocks of fn that run for the constants of this build.
func live(fn *ssa.Function) []*ssa.BasicBlock {
	if len(fn.Blocks) == 0 {
		return nil
	}
	seen := make([]bool, len(fn.Blocks))
	var visit func(b *ssa.BasicBlock)
	visit = func(b *ssa.BasicBlock) {
		if seen[b.Index] {
			return
		}
		seen[b.Index] = true
		if i, ok := b.Instrs[len(b.Instrs)-1].(*ssa.If); ok {
			if k, ok := i.Cond.(*ssa.Const); ok && k.Value != nil {
				if k.Value.String() == "true" {
					visit(b.Succs[0])
				} else {
					visit(b.Succs[1])
				}
				return
			}
		}
		for _, s := range b.Succs {
			visit(s)
		}
	}
	visit(fn.Blocks[0])
	if fn.Recover != nil {
		visit(fn.Recover)
	}
	var blocks []*ssa.BasicBlock
	for _, b := range fn.Blocks {
		if seen[b.Index] {
			blocks = append(blocks, b)
		}
	}
	return blocks
}

// inLoop says that b may run more than once in a call.
func inLoop(b *ssa.BasicBlock) bool {
	seen := map[*ssa.BasicBlock]bool{}
	var reaches func(from *ssa.BasicBlock) bool
	reaches = func(from *ssa.BasicBlock) bool {
		for _, s := range from.Succs {
			if s == b {
				return true
			}
			if !seen[s] {
				seen[s] = true
				if reaches(s) {
					return true
				}
			}
		}
		return false
	}
	return reaches(b)
}

// position is where an instruction is in the source: that of who uses its value, or of what stands
// nearby, if it has none.
func position(instr ssa.Instruction) token.Pos {
	if pos := instr.Pos(); pos.IsValid() {
		return pos
	}
	if m, ok := instr.(*ssa.MakeClosure); ok && m.Fn.Pos().IsValid() {
		return m.Fn.Pos()
	}
	if v, ok := instr.(ssa.Value); ok && v.Referrers() != nil {
		for _, r := range *v.Referrers() {
			if _, note := r.(*ssa.DebugRef); !note && r.Pos().IsValid() {
				return r.Pos()
			}
		}
		for _, op := range instr.Operands(nil) {
			if i, ok := (*op).(ssa.Instruction); ok && i.Pos().IsValid() && i.Block() == instr.Block() {
				return i.Pos()
			}
		}
	}
	if call, ok := instr.(ssa.CallInstruction); ok {
		for _, arg := range call.Common().Args {
			if m, ok := arg.(*ssa.MakeClosure); ok && m.Fn.Pos().IsValid() { // the body of a loop over a function
				return m.Fn.Pos()
			}
		}
	}
	pos, before := token.NoPos, true
	for _, i := range instr.Block().Instrs {
		before = before && i != instr
		if _, note := i.(*ssa.DebugRef); !note && i.Pos().IsValid() && (before || !pos.IsValid()) {
			pos = i.Pos()
		}
	}
	if !pos.IsValid() {
		pos = instr.Parent().Pos()
	}
	return pos
}

// typeName is how messages call a type.
func (c *checker) typeName(t types.Type) string {
	return types.TypeString(t, func(p *types.Package) string {
		if p == c.pass.Pkg {
			return ""
		}
		return p.Name()
	})
}
