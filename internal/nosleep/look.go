package nosleep

import (
	"go/token"
	"go/types"
	"slices"

	"golang.org/x/tools/go/ssa"
)

// A class is what kind of fault something is.
type class uint8

const (
	waits     class = iota // never allowed
	allocates              // allowed where an error of a refused call is made
)

// A fault is something in a function that must not be there.
type fault struct {
	pos          token.Pos
	class        class
	what, remedy string
}

const (
	remedyWait  = "let a goroutine that may sleep do it"
	remedyMap   = "use an array or a slice with an index"
	remedyAlloc = "make it beforehand, or keep it in the caller's memory"
	remedyText  = "make texts where it may sleep, or in a //gommu:refusal function"
	remedyBox   = "use a concrete type, or a pointer that is there already"
)

// fault notes one, unless it is trusted.
func (c *checker) fault(f *function, pos token.Pos, class class, what, remedy string) {
	if class == allocates && f.isExempt(pos) || c.trusted(pos) {
		return
	}
	f.faults = append(f.faults, fault{pos, class, what, remedy})
}

func (f *function) isExempt(pos token.Pos) bool {
	for _, s := range f.exempt {
		if s.has(pos) {
			return true
		}
	}
	return false
}

// look notes the faults of f that need nothing but f, and its calls. What may be allocated waits until
// leaks are known.
func (c *checker) look(f *function) {
	if len(f.fn.Blocks) == 0 {
		c.bodiless(f)
		return
	}
	c.syntax(f)
	for _, b := range live(f.fn) {
		for _, instr := range b.Instrs {
			c.instruction(f, instr)
		}
	}
}

// bodiless looks at a function in assembly, or one that is linked to another. If it is marked that is on trust.
func (c *checker) bodiless(f *function) {
	for i, p := range f.fn.Params {
		f.calls[i] = isFunc(p.Type())
	}
	if f.mark != unmarked {
		c.tell(f.fn.Pos(), "no body: %s is marked %s", f.name(), f.mark)
		return
	}
	if e, ok := listed(f.obj); !ok || e.refused || e.allocates {
		c.fault(f, f.fn.Pos(), waits, "has no Go body", "mark it //gommu:nosleep if its assembly keeps that promise")
	}
}

func (c *checker) instruction(f *function, instr ssa.Instruction) {
	at := position(instr)
	switch i := instr.(type) {
	case *ssa.Send:
		c.fault(f, at, waits, "sends on a channel", remedyWait)
	case *ssa.Select:
		c.fault(f, at, waits, "has a select statement", remedyWait)
	case *ssa.Go:
		c.fault(f, at, waits, "starts a goroutine", "start it beforehand")
	case *ssa.Defer:
		if inLoop(i.Block()) {
			c.fault(f, at, allocates, "defers in a loop", "call it where the turn of the loop ends, or move the turn to a function")
		}
		c.call(f, i, at)
	case ssa.CallInstruction:
		c.call(f, i, at)
	case *ssa.UnOp:
		if i.Op == token.ARROW {
			c.fault(f, at, waits, "receives from a channel", remedyWait)
		}
	case *ssa.Store:
		if a, ok := i.Addr.(*ssa.FieldAddr); ok && c.fieldMarked(a.X.Type().Underlying().(*types.Pointer).Elem(), a.Field) {
			for _, t := range c.resolve(i.Val, nil) {
				if t.param != nil {
					c.callsParam(t.param) // what is in a marked field may be called
				}
			}
		}
	case *ssa.MakeChan:
		c.fault(f, at, allocates, "makes a channel", remedyAlloc)
	case *ssa.MakeMap:
		c.fault(f, at, allocates, "makes a map", remedyAlloc)
	case *ssa.MapUpdate:
		c.fault(f, at, waits, "writes to a map", remedyMap)
	case *ssa.Lookup:
		if isMap(i.X.Type()) {
			c.fault(f, at, waits, "reads a map", remedyMap)
		}
	case *ssa.Range:
		if isMap(i.X.Type()) {
			c.fault(f, at, waits, "reads a map", remedyMap)
		}
	case *ssa.BinOp:
		if i.Op == token.ADD && mayBe(i.Type(), isString) {
			c.fault(f, at, allocates, "joins strings", remedyText)
		}
	case *ssa.Convert:
		c.converts(f, at, i.X.Type(), i.Type())
	case *ssa.MultiConvert:
		c.converts(f, at, i.X.Type(), i.Type())
	case *ssa.ChangeInterface:
		if !types.Identical(i.X.Type().Underlying(), i.Type().Underlying()) && !isTypeParam(i.X.Type()) {
			c.asserts(f, at, i.Type())
		}
	case *ssa.TypeAssert:
		if !types.Identical(i.X.Type(), i.AssertedType) { // else it only looks whether it is nil
			c.asserts(f, at, i.AssertedType)
		}
	}
}

// converts looks at a conversion that may make a string or a slice of its bytes.
func (c *checker) converts(f *function, at token.Pos, from, to types.Type) {
	text := func(t types.Type) bool { return isString(t) || isSlice(t) }
	if !mayBe(to, text) || !mayBe(from, func(t types.Type) bool { return text(t) || isInteger(t) }) {
		return
	}
	if mayBe(to, isString) && mayBe(from, func(t types.Type) bool { return !isString(t) }) || mayBe(to, isSlice) && mayBe(from, isString) {
		c.fault(f, at, allocates, "converts to "+c.typeName(to), remedyText)
	}
}

// asserts looks at a conversion from an interface to t.
func (c *checker) asserts(f *function, at token.Pos, t types.Type) {
	if i, ok := t.Underlying().(*types.Interface); ok && !isTypeParam(t) && !i.Empty() {
		c.fault(f, at, waits, "converts to the interface "+c.typeName(t)+
			" at run time, which may take a lock to make its table of methods", "convert it beforehand, or assert to a concrete type")
	}
}

// builtin looks at a call of a built-in function.
func (c *checker) builtin(f *function, at token.Pos, b *ssa.Builtin, args []ssa.Value) {
	switch b.Name() {
	case "append":
		c.fault(f, at, allocates, "appends, which allocates where the slice is full", "write to a slice that is long enough, or trust it with the bound as the reason")
	case "close":
		c.fault(f, at, waits, "closes a channel", remedyWait)
	case "delete":
		c.fault(f, at, waits, "writes to a map", remedyMap)
	case "clear":
		if mayBe(args[0].Type(), isMap) {
			c.fault(f, at, waits, "writes to a map", remedyMap)
		}
	case "print", "println":
		c.fault(f, at, waits, "prints, which is a system call", remedyWait)
	}
}

// allocations notes what f allocates, now that it is known what leaks.
func (c *checker) allocations(f *function) {
	for _, b := range live(f.fn) {
		for _, instr := range b.Instrs {
			at := position(instr)
			switch i := instr.(type) {
			case *ssa.Alloc:
				c.variable(f, i, at)
			case *ssa.MakeSlice:
				c.fault(f, at, allocates, "makes a slice", remedyAlloc)
			case *ssa.MakeClosure:
				if c.escapes(f, i) {
					c.fault(f, at, allocates, "makes a function with variables of its own that outlives the call", "pass it only down to functions that do not keep it")
				}
			case *ssa.MakeInterface:
				c.box(f, at, i.X, i)
			case *ssa.ChangeType:
				c.box(f, at, i.X, i)
			case *ssa.ChangeInterface:
				c.box(f, at, i.X, i)
			}
		}
	}
}

// biggest is the most bytes that the compiler keeps on a stack in one implicit variable.
const biggest = 64 << 10

func (c *checker) variable(f *function, a *ssa.Alloc, at token.Pos) {
	t := a.Type().Underlying().(*types.Pointer).Elem()
	size := c.size(t)
	switch {
	case size == 0:
	case size > biggest:
		c.fault(f, at, allocates, "has a variable too large for the stack", remedyAlloc)
	case a.Heap && c.escapes(f, a):
		what := "takes the address of " + a.Comment + ", which outlives the call"
		switch a.Comment {
		case "new", "complit", "slicelit", "varargs", "makeslice":
			what = "allocates a " + c.typeName(t) + ", which outlives the call"
		}
		c.fault(f, at, allocates, what, remedyAlloc)
	}
}

// size is how many bytes a t takes, -1 if that depends on type parameters.
func (c *checker) size(t types.Type) (n int64) {
	defer func() {
		if recover() != nil { // go/types knows no size of a type parameter
			n = -1
		}
	}()
	return c.pass.TypesSizes.Sizeof(t)
}

// box looks at a conversion of v to an interface. That of a type parameter is one, though SSA has it otherwise.
func (c *checker) box(f *function, at token.Pos, v, in ssa.Value) {
	to := in.Type()
	if !types.IsInterface(to) || isTypeParam(to) || types.IsInterface(v.Type()) && !isTypeParam(v.Type()) {
		return
	}
	if c.boxed(f.fn, v) && c.escapes(f, in) {
		c.fault(f, at, allocates, "puts a "+c.typeName(v.Type())+" into an interface", remedyBox)
	}
}

// boxed says that an interface does not hold v itself, nor something made by the compiler.
func (c *checker) boxed(fn *ssa.Function, v ssa.Value) bool {
	if k, ok := v.(*ssa.Const); ok && (k.IsNil() || c.literal(fn, k)) {
		return false
	}
	t, whole := v.Type(), true
	for {
		switch u := t.Underlying().(type) {
		case *types.Pointer, *types.Chan, *types.Map, *types.Signature:
			return false
		case *types.Basic: // of the values of one byte there is a table
			return u.Kind() != types.UnsafePointer && !(whole && c.size(t) == 1)
		case *types.Struct:
			if u.NumFields() != 1 {
				return c.size(t) != 0
			}
			t = u.Field(0).Type()
		case *types.Array:
			if u.Len() != 1 {
				return c.size(t) != 0
			}
			t = u.Elem()
		default:
			return true
		}
		whole = false
	}
}

// literal says that the constant k stands so in the source of fn. What a variable is known to hold the compiler need
// not know.
func (c *checker) literal(fn *ssa.Function, k *ssa.Const) bool {
	if _, ok := k.Type().Underlying().(*types.Basic); !ok {
		return false
	}
	for _, held := range c.values(fn) {
		if slices.Contains(held, ssa.Value(k)) {
			return false
		}
	}
	return true
}
