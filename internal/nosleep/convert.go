package nosleep

import (
	"go/token"
	"go/types"

	"golang.org/x/tools/go/ssa"
)

// conversions looks, in all functions, at where types become interfaces, and functions the values of fields and
// types, that are marked: what is called through them later has to keep their promise.
func (c *checker) conversions() {
	for _, f := range c.funcs {
		for _, b := range live(f.fn) {
			for _, instr := range b.Instrs {
				at := position(instr)
				switch i := instr.(type) {
				case *ssa.MakeInterface:
					c.implements(at, i.X.Type(), i.Type())
				case *ssa.ChangeInterface:
					c.implements(at, i.X.Type(), i.Type())
				case *ssa.TypeAssert:
					if types.IsInterface(i.AssertedType) {
						c.implements(at, i.X.Type(), i.AssertedType)
					}
				case *ssa.Store:
					if a, ok := i.Addr.(*ssa.FieldAddr); ok && c.fieldMarked(a.X.Type().Underlying().(*types.Pointer).Elem(), a.Field) {
						c.promised(f, at, i.Val, "the field "+fieldName(a), a)
					}
				case *ssa.FieldAddr:
					c.pointedTo(at, i)
				case *ssa.ChangeType:
					c.changed(f, at, i)
				}
			}
		}
	}
}

// implements checks that the methods of from are marked that are marked in the interface to.
func (c *checker) implements(at token.Pos, from, to types.Type) {
	iface, ok := to.Underlying().(*types.Interface)
	if !ok || types.Identical(from, to) {
		return
	}
	for m := range iface.Methods() {
		if !c.marked(m) {
			continue
		}
		obj, _, _ := types.LookupFieldOrMethod(from, true, m.Pkg(), m.Name())
		fn, _ := obj.(*types.Func)
		if fn != nil && (c.marked(fn) || c.promoted(named(from), fn.Name()) || c.maysleep(named(from)) || c.maysleep(named(fn.Signature().Recv().Type()))) || c.trusted(at) {
			continue
		}
		name := c.typeName(from)
		iname := c.typeName(to)
		switch {
		case types.IsInterface(from) && !isTypeParam(from):
			c.reportf(at, "%s becomes %s, whose method %s never sleeps, but nothing says so of what is in it: convert from a type whose %s is marked //gommu:nosleep, or add //gommu:trust with the reason",
				name, iname, m.Name(), m.Name())
		case fn == nil:
			c.reportf(at, "%s becomes %s, whose method %s never sleeps: nothing is known of its %s", name, iname, m.Name(), m.Name())
		default:
			c.reportf(at, "%s becomes %s, whose method %s never sleeps, but %s is not marked so: mark it //gommu:nosleep, or the type //gommu:maysleep with the reason",
				name, iname, m.Name(), methodName(fn))
		}
	}
}

// promised checks that the function v, stored at addr if that is not nil, may be what is marked. A parameter may
// only be stored where it is gone when the call ends: then who hands it over answers for it.
func (c *checker) promised(f *function, at token.Pos, v ssa.Value, what string, addr ssa.Value) {
	for _, t := range c.resolve(v, nil) {
		switch {
		case t.marked, t.param != nil && addr != nil && c.stays(f, addr):
			continue
		case t.fn != nil:
			probe := &function{fn: f.fn, calls: map[int]bool{}}
			c.static(probe, t.fn, nil, at)
			c.broken(probe, at, what)
		case !c.trusted(at):
			c.reportf(at, "%s never sleeps, but the function that it gets can be anything: give it a literal, a function by its name, or a value that is marked //gommu:nosleep", what)
		}
	}
}

// stays says that addr is in variables of f that do not outlive its call.
func (c *checker) stays(f *function, addr ssa.Value) bool {
	cells, ok := bases(addr, map[ssa.Value]bool{})
	for _, cell := range cells {
		a, is := cell.(*ssa.Alloc)
		ok = ok && is && a.Parent() == f.fn && !c.escapes(f, a)
	}
	return ok
}

// broken reports what the calls of probe do that what is marked must not.
func (c *checker) broken(probe *function, at token.Pos, what string) {
	for _, x := range probe.faults {
		c.reportf(at, "%s never sleeps, but what it gets %s: %s", what, x.what, x.remedy)
	}
	for _, e := range probe.edges {
		for _, class := range e.classes() {
			if cause := c.cause(e.to, class); cause != nil {
				c.reportf(at, "%s never sleeps, but what it gets is %s: %s", what, cause.by(e.to.name()), cause.Remedy)
				return
			}
		}
	}
}

// pointedTo refuses a pointer to a marked field, through which anything could be stored.
func (c *checker) pointedTo(at token.Pos, a *ssa.FieldAddr) {
	if !c.fieldMarked(a.X.Type().Underlying().(*types.Pointer).Elem(), a.Field) {
		return
	}
	for _, r := range *a.Referrers() {
		switch r := r.(type) {
		case *ssa.UnOp, *ssa.DebugRef:
			continue
		case *ssa.Store:
			if r.Val != a {
				continue
			}
		}
		if !c.trusted(at) {
			c.reportf(at, "the address of the field %s, which never sleeps, is taken: what is stored through it is not checked", fieldName(a))
		}
		return
	}
}

// changed checks a conversion to a marked type of functions, or to a struct that has marked fields.
func (c *checker) changed(f *function, at token.Pos, i *ssa.ChangeType) {
	c.implements(at, i.X.Type(), i.Type())
	n := named(i.Type())
	if n == nil {
		return
	}
	if isFunc(n) {
		if c.marked(n.Obj()) {
			c.promised(f, at, i.X, "the type "+n.Obj().Name(), nil)
		}
		return
	}
	s, ok := n.Underlying().(*types.Struct)
	from := named(i.X.Type())
	if !ok || from == nil || from.Origin() == n.Origin() {
		return
	}
	for k := range s.NumFields() {
		if c.fieldMarked(n, k) && !c.fieldMarked(from, k) && !c.trusted(at) {
			c.reportf(at, "%s becomes %s, whose field %s never sleeps: mark the field there too", from.Obj().Name(), n.Obj().Name(), s.Field(k).Name())
		}
	}
}

// instances checks what stands for type parameters whose constraint has marked methods.
func (c *checker) instances() {
	for id, inst := range c.pass.TypesInfo.Instances {
		var params *types.TypeParamList
		switch obj := origin(c.pass.TypesInfo.Uses[id]).(type) {
		case *types.Func:
			params = obj.Signature().TypeParams()
		case *types.TypeName:
			if n, ok := obj.Type().(*types.Named); ok {
				params = n.TypeParams()
			}
		}
		for i := range params.Len() {
			c.implements(id.Pos(), inst.TypeArgs.At(i), params.At(i).Constraint())
		}
	}
}

func fieldName(a *ssa.FieldAddr) string {
	t := a.X.Type().Underlying().(*types.Pointer).Elem()
	name := t.Underlying().(*types.Struct).Field(a.Field).Name()
	if n := named(t); n != nil {
		return n.Obj().Name() + "." + name
	}
	return name
}
