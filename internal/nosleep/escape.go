package nosleep

import (
	"go/token"
	"go/types"

	"golang.org/x/tools/go/ssa"
)

// A state is how a value holds what is followed.
type state uint8

const (
	itself    state = 1 << iota // it is the pointer, or has it in one of its fields
	content                     // it came from where the pointer points to
	ofItself                    // it points to a variable that holds the pointer
	ofContent                   // it points to a variable that holds what came from there
)

// A flow follows one pointer through its function, and the literals in it.
type flow struct {
	c      *checker
	source ssa.Value
	states map[ssa.Value]state
	vars   map[*types.Var]state
	work   []ssa.Value
	leak   leak
	within *span // leaving it is a leak: a loop whose turns each have a variable of their own
}

// escapes says that what v, made in f, points to may outlive the call, so the compiler puts it on the heap.
func (c *checker) escapes(f *function, v ssa.Value) bool {
	if v.Type() != nil && f.jumps() {
		return true
	}
	w := flow{c: c, source: v}
	if instr, ok := v.(ssa.Instruction); ok {
		if loop, ok := f.around(position(instr)); ok {
			w.within = &loop
		}
	}
	return w.follow()&(leakSelf|selfOut) != 0
}

func (w *flow) follow() leak {
	w.states, w.vars = map[ssa.Value]state{}, map[*types.Var]state{}
	w.add(w.source, itself)
	for len(w.work) > 0 {
		v := w.work[len(w.work)-1]
		w.work = w.work[:len(w.work)-1]
		s := w.states[v]
		if refs := v.Referrers(); refs != nil {
			for _, r := range *refs {
				if w.c.runs(r.Block()) {
					w.use(v, s, r)
				}
			}
		}
	}
	return w.leak
}

// runs says that b runs for the constants of this build.
func (c *checker) runs(b *ssa.BasicBlock) bool {
	fn := b.Parent()
	if c.live[fn] == nil {
		c.live[fn] = map[*ssa.BasicBlock]bool{}
		for _, l := range live(fn) {
			c.live[fn][l] = true
		}
	}
	return c.live[fn][b]
}

// add notes that v has what is followed in the state s.
func (w *flow) add(v ssa.Value, s state) {
	if s == 0 || w.states[v]|s == w.states[v] || !pointers(v.Type()) {
		return
	}
	w.states[v] |= s
	w.work = append(w.work, v)
}

// lost notes that a value in the state s went where it cannot be followed.
func (w *flow) lost(s state) {
	if s&(itself|ofItself) != 0 {
		w.leak |= leakSelf
	}
	if s&(content|ofContent) != 0 {
		w.leak |= leakContent
	}
}

// loadedFrom is the state of what is read through a pointer in the state s.
func loadedFrom(s state) (l state) {
	if s&(itself|content) != 0 {
		l |= content
	}
	if s&ofItself != 0 {
		l |= itself | ofItself
	}
	if s&ofContent != 0 {
		l |= content | ofContent
	}
	return l
}

// use follows v into one instruction.
func (w *flow) use(v ssa.Value, s state, instr ssa.Instruction) {
	if d, ok := instr.(*ssa.DebugRef); ok {
		w.variable(d, s)
		return
	}
	if w.within != nil && instr.Parent() == w.source.Parent() {
		if pos := instr.Pos(); pos.IsValid() && !w.within.has(pos) {
			w.lost(s)
		}
	}
	switch i := instr.(type) {
	case *ssa.Store:
		if i.Val == v {
			w.store(i.Addr, s)
		}
	case *ssa.UnOp:
		if i.Op == token.MUL {
			w.add(i, loadedFrom(s))
		}
	case *ssa.Phi:
		if w.within != nil && !turns(i) {
			w.lost(s)
		}
		w.add(i, s)
	case *ssa.FieldAddr, *ssa.Field, *ssa.Index, *ssa.Slice, *ssa.ChangeType, *ssa.Convert, *ssa.MultiConvert, *ssa.ChangeInterface,
		*ssa.MakeInterface, *ssa.TypeAssert, *ssa.Extract, *ssa.SliceToArrayPointer:
		w.add(i.(ssa.Value), s)
	case *ssa.IndexAddr:
		if i.X == v {
			w.add(i, s)
		}
	case *ssa.MakeClosure:
		w.add(i, s)
		for k, b := range i.Bindings {
			if fn := i.Fn.(*ssa.Function); b == v {
				w.add(fn.FreeVars[k], s)
				if fn.Object() != nil { // a method value: what the method does with it
					w.lost(s)
				}
			}
		}
	case *ssa.Return:
		for k, r := range i.Results {
			if r == v {
				w.returned(v, s, k)
			}
		}
	case *ssa.BinOp, *ssa.If, *ssa.RunDefers, *ssa.Range, *ssa.Next, *ssa.Lookup:
	case *ssa.Go:
		w.lost(s)
	case ssa.CallInstruction:
		w.call(v, s, i)
	default:
		w.lost(s)
	}
}

// variable follows a value to the variable that holds it, and to all that holds at other times: the compiler
// takes them for one.
func (w *flow) variable(d *ssa.DebugRef, s state) {
	v, ok := d.Object().(*types.Var)
	if !ok || d.IsAddr || v.IsField() {
		return
	}
	if w.within != nil && !w.within.has(v.Pos()) {
		w.lost(s)
	}
	if w.vars[v]|s == w.vars[v] {
		return
	}
	w.vars[v] |= s
	for _, other := range w.c.values(d.Parent())[v] {
		w.add(other, s)
	}
}

// values are the values that fn's variables have.
func (c *checker) values(fn *ssa.Function) map[types.Object][]ssa.Value {
	m := c.same[fn]
	if m == nil {
		type held struct {
			v types.Object
			x ssa.Value
		}
		m = map[types.Object][]ssa.Value{}
		seen := map[held]bool{}
		for _, b := range fn.Blocks {
			for _, instr := range b.Instrs {
				d, ok := instr.(*ssa.DebugRef)
				if ok && !d.IsAddr && d.Object() != nil && !seen[held{d.Object(), d.X}] {
					seen[held{d.Object(), d.X}] = true
					m[d.Object()] = append(m[d.Object()], d.X)
				}
			}
		}
		c.same[fn] = m
	}
	return m
}

// turns says that p is the variable of a loop, of which each turn has a copy.
func turns(p *ssa.Phi) bool {
	for _, e := range p.Edges {
		if a, ok := e.(*ssa.Alloc); !ok || a.Pos() != p.Pos() || a.Comment != p.Comment {
			return false
		}
	}
	return true
}

// returned notes that v is the kth result of the function that it is in.
func (w *flow) returned(v ssa.Value, s state, k int) {
	if parent(v) != w.source.Parent() { // a literal, whose callers are not followed
		w.lost(s)
		return
	}
	if s&itself != 0 {
		w.leak |= selfAs(k)
	}
	if s&content != 0 {
		w.leak |= contentAs(k)
	}
	w.lost(s & (ofItself | ofContent))
}

func parent(v ssa.Value) *ssa.Function {
	switch v := v.(type) {
	case ssa.Instruction:
		return v.Parent()
	case *ssa.Parameter:
		return v.Parent()
	case *ssa.FreeVar:
		return v.Parent()
	}
	return nil
}

// store notes that a value in the state s was written to addr.
func (w *flow) store(addr ssa.Value, s state) {
	cells, ok := bases(addr, map[ssa.Value]bool{})
	if !ok {
		w.lost(s)
		return
	}
	for _, cell := range cells {
		if p, param := cell.(*ssa.Parameter); param {
			// Within what the pointer points to, what came from there has not left.
			if p != w.source || s&^content != 0 {
				w.lost(s)
			}
			continue
		}
		var held state
		if s&(itself|ofItself) != 0 {
			held |= ofItself
		}
		if s&(content|ofContent) != 0 {
			held |= ofContent
		}
		w.add(cell, held)
	}
}

// bases are the variables that addr is a part of: variables of the function, what its parameters point to.
func bases(addr ssa.Value, seen map[ssa.Value]bool) (all []ssa.Value, ok bool) {
	if seen[addr] {
		return nil, true
	}
	seen[addr] = true
	next := func(vs ...ssa.Value) ([]ssa.Value, bool) {
		for _, v := range vs {
			more, ok := bases(v, seen)
			if !ok {
				return nil, false
			}
			all = append(all, more...)
		}
		return all, true
	}
	switch a := addr.(type) {
	case *ssa.Alloc, *ssa.Parameter, *ssa.MakeSlice:
		return []ssa.Value{a}, true
	case *ssa.FieldAddr:
		return next(a.X)
	case *ssa.IndexAddr:
		return next(a.X)
	case *ssa.Slice:
		return next(a.X)
	case *ssa.ChangeType:
		return next(a.X)
	case *ssa.Phi:
		return next(a.Edges...)
	case *ssa.FreeVar:
		b := bindings(a)
		if len(b) == 0 {
			return nil, false
		}
		return next(b...)
	}
	return nil, false
}

// call follows v into a call.
func (w *flow) call(v ssa.Value, s state, call ssa.CallInstruction) {
	common := call.Common()
	if common.IsInvoke() {
		w.lost(s)
		return
	}
	if b, ok := common.Value.(*ssa.Builtin); ok {
		w.builtin(v, s, b, call)
		return
	}
	for i, arg := range common.Args {
		if arg != v {
			continue
		}
		l := w.c.leakOf(common.Value, i)
		if l&leakSelf != 0 {
			w.lost(s)
		}
		if l&leakContent != 0 {
			w.lost(loadedFrom(s))
		}
		if call.Value() == nil {
			continue
		}
		if _, several := call.Value().Type().(*types.Tuple); !several {
			w.result(call.Value(), s, l, 0)
			continue
		}
		for _, r := range *call.Value().Referrers() {
			if x, ok := r.(*ssa.Extract); ok {
				w.result(x, s, l, x.Index)
			}
		}
	}
}

// result follows what was handed to a call to its kth result.
func (w *flow) result(v ssa.Value, s state, l leak, k int) {
	if l&selfAs(k) != 0 {
		w.add(v, s)
	}
	if l&contentAs(k) != 0 {
		w.add(v, loadedFrom(s))
	}
}

func (w *flow) builtin(v ssa.Value, s state, b *ssa.Builtin, call ssa.CallInstruction) {
	args := call.Common().Args
	switch b.Name() {
	case "append", "copy":
		if len(args) > 1 && args[1] == v && pointers(elem(args[1].Type())) {
			w.store(args[0], loadedFrom(s))
		}
		if args[0] == v && call.Value() != nil {
			w.add(call.Value(), s)
		}
	case "panic":
		w.lost(s)
	case "len", "cap", "clear", "print", "println", "delete", "close", "recover":
	default: // of unsafe, or a check
		if call.Value() != nil {
			w.add(call.Value(), s)
		}
	}
}

// elem is the type of a slice's elements.
func elem(t types.Type) types.Type {
	if s, ok := t.Underlying().(*types.Slice); ok {
		return s.Elem()
	}
	return types.Typ[types.Byte]
}
