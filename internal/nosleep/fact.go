package nosleep

import (
	"encoding/json"
	"go/types"
)

// Facts are what importers of a package need to know of it. Names are "F" for a function, "T.M" for a
// method, also an interface's, "T.f" for a field, "T" for a type.
type Facts struct {
	Funcs    map[string]Func
	Marked   map[string]bool   `json:",omitempty"` // methods of interfaces, fields and types of functions that are marked nosleep
	Maysleep map[string]string `json:",omitempty"` // types, and why
}

// Func is what importers need to know of a function.
type Func struct {
	Mark   mark   `json:"M,omitempty"`
	Waits  *Cause `json:"W,omitempty"` // why it may sleep, nil if it does not
	Allocs *Cause `json:"A,omitempty"` // why it may allocate, nil if it does not
	Calls  []int  `json:"C,omitempty"` // the parameters, the receiver among them, that it calls
	Leaks  []leak `json:"L,omitempty"` // by parameter
}

// A Cause is why a function is not clean.
type Cause struct {
	Chain  []string // the calls that lead to the function that does it, not with the one whose Cause it is
	What   string   // "sends on a channel"
	Remedy string
	At     string // file.go:12
}

// AFact makes Facts one for go/analysis.
func (*Facts) AFact() {}

func (*Facts) String() string { return "nosleep" }

// shape is Facts without methods.
type shape Facts

// GobEncode puts the names in order, as gob does not: go vet knows by the bytes what has not changed.
func (f *Facts) GobEncode() ([]byte, error) { return json.Marshal((*shape)(f)) }

// GobDecode is the way back.
func (f *Facts) GobDecode(b []byte) error { return json.Unmarshal(b, (*shape)(f)) }

// key is the name of obj in Facts, or nothing for what no importer can name.
func key(obj types.Object) string {
	switch obj := obj.(type) {
	case *types.Func:
		recv := obj.Signature().Recv()
		if recv == nil {
			return obj.Name()
		}
		if n := named(recv.Type()); n != nil {
			return n.Obj().Name() + "." + obj.Name()
		}
	case *types.TypeName:
		return obj.Name()
	}
	return ""
}

// named is the type that t, or what it points to, is declared as; nil if it is not.
func named(t types.Type) *types.Named {
	t = types.Unalias(t)
	if p, ok := t.(*types.Pointer); ok {
		t = types.Unalias(p.Elem())
	}
	n, _ := t.(*types.Named)
	return n
}

// origin is obj as it was declared: the generic one of an instance.
func origin(obj types.Object) types.Object {
	switch obj := obj.(type) {
	case *types.Func:
		return obj.Origin()
	case *types.Var:
		return obj.Origin()
	case *types.TypeName:
		if n, ok := obj.Type().(*types.Named); ok {
			return n.Origin().Obj()
		}
	}
	return obj
}

// facts are those of another package.
func (c *checker) facts(p *types.Package) *Facts {
	if p == nil {
		return &Facts{}
	}
	f, ok := c.imported[p]
	if !ok {
		f = &Facts{}
		c.pass.ImportPackageFact(p, f)
		c.imported[p] = f
	}
	return f
}

// marked says that a function, a method of an interface, or a type of functions is marked nosleep.
func (c *checker) marked(obj types.Object) bool {
	if obj = origin(obj); obj.Pkg() == c.pass.Pkg {
		return c.dir.marks[obj] == nosleep
	}
	f := c.facts(obj.Pkg())
	return f.Marked[key(obj)] || f.Funcs[key(obj)].Mark == nosleep
}

// markedField says that field i of a struct type, which is declared as n if that is not nil, is marked nosleep.
func (c *checker) markedField(n *types.Named, field *types.Var) bool {
	field = field.Origin()
	if field.Pkg() == c.pass.Pkg {
		return c.dir.marks[field] == nosleep
	}
	return n != nil && c.facts(field.Pkg()).Marked[n.Obj().Name()+"."+field.Name()]
}

// maysleep says that the type n is marked so.
func (c *checker) maysleep(n *types.Named) bool {
	if n == nil {
		return false
	}
	obj := n.Origin().Obj()
	if obj.Pkg() == c.pass.Pkg {
		return c.dir.maysleep[obj] != ""
	}
	return c.facts(obj.Pkg()).Maysleep[key(obj)] != ""
}

// export tells importers what they need to know of this package. Of the standard library's functions
// that are not clean it tells nothing, because there are many.
func (c *checker) export() {
	out := &Facts{Funcs: map[string]Func{}, Marked: map[string]bool{}, Maysleep: map[string]string{}}
	for obj, m := range c.dir.marks {
		switch obj := obj.(type) {
		case *types.Var:
			continue
		default:
			out.Marked[key(obj)] = m == nosleep
		}
	}
	c.exportFields(out)
	for obj, why := range c.dir.maysleep {
		out.Maysleep[key(obj)] = why
	}
	for _, f := range c.funcs {
		k := ""
		if f.obj != nil {
			k = key(f.obj)
		}
		if k == "" || f.waits != nil && c.standard {
			continue
		}
		v := Func{Mark: f.mark, Waits: c.cause(f, waits), Allocs: c.cause(f, allocates)}
		if c.standard && v.Allocs != nil {
			v.Allocs = &Cause{What: "allocates", Remedy: remedyAlloc}
		}
		for i := range f.leaks {
			if f.calls[i] {
				v.Calls = append(v.Calls, i)
			}
		}
		v.Leaks = f.leaks
		out.Funcs[k] = v
	}
	delete(out.Marked, "")
	c.pass.ExportPackageFact(out)
}

// exportFields adds the marked fields of the package's types.
func (c *checker) exportFields(out *Facts) {
	scope := c.pass.Pkg.Scope()
	for _, name := range scope.Names() {
		s, ok := scope.Lookup(name).Type().Underlying().(*types.Struct)
		if _, isType := scope.Lookup(name).(*types.TypeName); !ok || !isType {
			continue
		}
		embeds := false
		for f := range s.Fields() {
			embeds = embeds || f.Embedded()
			if c.dir.marks[f] == nosleep {
				out.Marked[name+"."+f.Name()] = true
			}
		}
		if embeds {
			c.exportPromoted(out, name, scope.Lookup(name).Type())
		}
	}
}

// exportPromoted adds the marked methods that a type has from a field of another package: who
// imports this package need not import that one, and has no facts of it then.
func (c *checker) exportPromoted(out *Facts, name string, t types.Type) {
	set := types.NewMethodSet(types.NewPointer(t))
	for m := range set.Methods() {
		fn, ok := m.Obj().(*types.Func)
		if ok && len(m.Index()) > 1 && fn.Pkg() != c.pass.Pkg && c.marked(fn) {
			out.Marked[name+"."+fn.Name()] = true
		}
	}
}

// promoted says that n has a marked method of this name, also if it is that of a field.
func (c *checker) promoted(n *types.Named, method string) bool {
	if n == nil || n.Obj().Pkg() == c.pass.Pkg {
		return false
	}
	return c.facts(n.Obj().Pkg()).Marked[n.Origin().Obj().Name()+"."+method]
}
