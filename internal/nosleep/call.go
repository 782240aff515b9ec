package nosleep

import (
	"go/token"
	"go/types"

	"golang.org/x/tools/go/ssa"
)

// An edge is a call of a function of this package, or of a literal.
type edge struct {
	pos    token.Pos
	to     *function
	exempt bool // it may allocate
}

// A site is a call that may hand functions on, to parameters that the callee calls.
type site struct {
	pos   token.Pos
	args  []ssa.Value
	to    *function // of this package
	calls []int     // of another package
	all   bool      // every function is taken to be called
	name  string
}

// A target is what the value of a function may be.
type target struct {
	fn     *ssa.Function
	param  *ssa.Parameter
	marked bool // it is the value of a marked field or type
	known  bool
}

// call looks at one call.
func (c *checker) call(f *function, call ssa.CallInstruction, at token.Pos) {
	common := call.Common()
	switch {
	case common.IsInvoke():
		c.invoke(f, common, at)
		return
	case common.StaticCallee() != nil:
		c.static(f, common.StaticCallee(), common.Args, at)
		return
	}
	if b, ok := common.Value.(*ssa.Builtin); ok {
		c.builtin(f, at, b, common.Args)
		return
	}
	for _, t := range c.resolve(common.Value, nil) {
		switch {
		case t.fn != nil:
			c.static(f, t.fn, arguments(t.fn, common.Args), at)
		case t.param != nil:
			c.callsParam(t.param)
			f.sites = append(f.sites, site{pos: at, args: common.Args, all: true, name: t.param.Name()})
		case t.marked:
			f.sites = append(f.sites, site{pos: at, args: common.Args, all: true, name: "a function that is marked nosleep"})
		case !t.known:
			c.fault(f, at, waits, "calls a function value that can be anything",
				"mark the field or the type of functions that it comes from //gommu:nosleep, or take it as a parameter")
		}
	}
}

// invoke looks at a call of a method of an interface or of a type parameter.
func (c *checker) invoke(f *function, call *ssa.CallCommon, at token.Pos) {
	name := methodName(call.Method)
	if c.marked(call.Method) {
		f.sites = append(f.sites, site{pos: at, args: call.Args, all: true, name: name})
		return
	}
	what := "calls " + name + " of an interface"
	if isTypeParam(call.Value.Type()) {
		what = "calls " + name + " of a type parameter"
	}
	c.fault(f, at, waits, what+", which can be anything", "mark the method in the interface //gommu:nosleep, or call a concrete type")
}

// static looks at a call of a known function.
func (c *checker) static(f *function, fn *ssa.Function, args []ssa.Value, at token.Pos) {
	if to := c.lookup(fn); to != nil {
		c.within(f, to, args, at)
		return
	}
	obj, _ := fn.Object().(*types.Func)
	if obj == nil {
		c.fault(f, at, waits, "calls "+fn.String()+", whose source is not known", remedyWait)
		return
	}
	if recv := obj.Signature().Recv(); recv != nil && types.IsInterface(recv.Type()) { // a method value of one
		c.invoke(f, &ssa.CallCommon{Method: obj, Value: bound(fn, recv), Args: args}, at)
		return
	}
	c.outside(f, obj.Origin(), args, at)
}

// arguments are args with the receiver that a method value brings with it.
func arguments(fn *ssa.Function, args []ssa.Value) []ssa.Value {
	if obj, ok := fn.Object().(*types.Func); ok && obj.Signature().Recv() != nil && len(fn.FreeVars) == 1 {
		return append([]ssa.Value{fn.FreeVars[0]}, args...)
	}
	return args
}

// bound is a value of the receiver's type, for the wrapper of a method value.
func bound(fn *ssa.Function, recv *types.Var) ssa.Value {
	for _, v := range fn.FreeVars {
		return v
	}
	if len(fn.Params) > 0 {
		return fn.Params[0]
	}
	return ssa.NewConst(nil, recv.Type())
}

// within looks at a call of a function of this package.
func (c *checker) within(f, to *function, args []ssa.Value, at token.Pos) {
	f.sites = append(f.sites, site{pos: at, args: args, to: to, name: to.name()})
	exempt := f.isExempt(at)
	switch {
	case to.mark == nosleep:
	case to.mark == refusal && !exempt:
		c.misplaced(f, to.name(), at)
	case to.mark == refusal:
	default:
		if !c.trusted(at) {
			f.edges = append(f.edges, edge{at, to, exempt})
		}
	}
}

func (c *checker) misplaced(f *function, name string, at token.Pos) {
	c.fault(f, at, allocates, "calls the refusal function "+name+" other than as a result of a return statement",
		"return its result directly")
}

// outside looks at a call of a function of another package.
func (c *checker) outside(f *function, obj *types.Func, args []ssa.Value, at token.Pos) {
	name := qualified(obj)
	v, known := c.verdict(obj)
	s := site{pos: at, args: args, calls: v.Calls, name: name}
	f.sites = append(f.sites, s)
	switch {
	case v.Mark == nosleep:
	case v.Mark == refusal:
		if !f.isExempt(at) {
			c.misplaced(f, name, at)
		}
	case !known:
		c.fault(f, at, waits, "calls "+name+", which "+unknown(obj), remedyUnknown(obj))
	case v.Waits != nil:
		c.fault(f, at, waits, "calls "+v.Waits.by(name), v.Waits.Remedy)
	case v.Allocs != nil:
		c.fault(f, at, allocates, "calls "+v.Allocs.by(name), v.Allocs.Remedy)
	}
}

// verdict is what is known of a function of another package.
func (c *checker) verdict(obj *types.Func) (Func, bool) {
	if e, ok := listed(obj); ok {
		v := Func{Leaks: e.leaks}
		switch {
		case e.refused:
			v.Waits = &Cause{What: e.why, Remedy: remedyWait}
		case e.allocates:
			v.Allocs = &Cause{What: e.why, Remedy: remedyText}
		}
		return v, true
	}
	v, ok := c.facts(obj.Pkg()).Funcs[key(obj)]
	return v, ok
}

// callsParam notes that its function calls p.
func (c *checker) callsParam(p *ssa.Parameter) {
	f := c.bySSA[p.Parent()]
	for i, q := range p.Parent().Params {
		if q == p && f != nil {
			f.calls[i] = true
		}
	}
}

// passOn finds the parameters that are handed on to parameters that are called.
func (c *checker) passOn() {
	for again := true; again; {
		again = false
		for _, f := range c.funcs {
			for _, s := range f.sites {
				for i, arg := range s.args {
					if !s.called(i) || !isFunc(arg.Type()) {
						continue
					}
					for _, t := range c.resolve(arg, nil) {
						if t.param == nil {
							continue
						}
						owner := c.bySSA[t.param.Parent()]
						before := 0
						if owner != nil {
							before = len(owner.calls)
						}
						c.callsParam(t.param)
						again = again || owner != nil && len(owner.calls) != before
					}
				}
			}
		}
	}
}

// called says that the callee calls its ith parameter.
func (s site) called(i int) bool {
	if s.all || s.to != nil && s.to.calls[i] {
		return true
	}
	for _, k := range s.calls {
		if k == i {
			return true
		}
	}
	return false
}

// handed looks at the functions that f hands to those that call them.
func (c *checker) handed(f *function) {
	for _, s := range f.sites {
		for i, arg := range s.args {
			if s.called(i) && isFunc(arg.Type()) {
				c.clean(f, s.pos, arg, "hands "+s.name+" a function that can be anything")
			}
		}
	}
}

// clean adds to f's calls what v, which will be called, may be.
func (c *checker) clean(f *function, at token.Pos, v ssa.Value, what string) {
	for _, t := range c.resolve(v, nil) {
		switch {
		case t.fn != nil:
			before := len(f.sites)
			c.static(f, t.fn, nil, at)
			f.sites = f.sites[:before]
		case !t.known:
			c.fault(f, at, waits, what, "hand it a function literal, a function by its name, or a value that is marked //gommu:nosleep")
		}
	}
}
