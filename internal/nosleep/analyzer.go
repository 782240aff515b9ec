package nosleep

import (
	"go/ast"
	"go/build"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/ctrlflow"
	"golang.org/x/tools/go/ssa"
)

const doc = `check functions that must not sleep

A function whose comment has the line //gommu:nosleep parks no goroutine, makes no system call, allocates
nothing on the heap and takes no lock. nosleep follows its calls, through other packages too, and reports
what breaks the promise, with the chain of calls that leads there.`

// Analyzer checks functions that are marked //gommu:nosleep.
var Analyzer = &analysis.Analyzer{
	Name:      "nosleep",
	Doc:       doc,
	Run:       run,
	Requires:  []*analysis.Analyzer{ctrlflow.Analyzer},
	FactTypes: []analysis.Fact{new(Facts)},
}

var listTrusts bool

func init() {
	Analyzer.Flags.BoolVar(&listTrusts, "trusts", false,
		"instead of checking, list what is taken on trust: lines with //gommu:trust, marked functions without a body, types that are //gommu:maysleep")
}

// A checker checks one package.
type checker struct {
	pass     *analysis.Pass
	standard bool // the package is of the standard library
	dir      directives
	imported map[*types.Package]*Facts

	funcs []*function // in the order of the source, literals after the function they are in
	bySSA map[*ssa.Function]*function
	byObj map[types.Object]*function
	live  map[*ssa.Function]map[*ssa.BasicBlock]bool
	same  map[*ssa.Function]map[types.Object][]ssa.Value // the values that a variable has
}

// A function is a function, a method or a literal.
type function struct {
	fn   *ssa.Function
	obj  *types.Func // nil for a literal
	mark mark

	faults []fault
	edges  []edge // calls of functions of this package, and of literals
	sites  []site // calls that may hand functions on
	exempt []span // where allocation is allowed

	calls map[int]bool // parameters that are called, here or by whom they are handed to
	leaks []leak

	waits, allocs *why
}

// span is a part of the source.
type span struct{ from, to token.Pos }

func (s span) has(pos token.Pos) bool { return s.from <= pos && pos <= s.to }

func run(pass *analysis.Pass) (any, error) {
	c := &checker{
		pass: pass, standard: isStandard(pass), imported: map[*types.Package]*Facts{},
		bySSA: map[*ssa.Function]*function{}, byObj: map[types.Object]*function{},
		live: map[*ssa.Function]map[*ssa.BasicBlock]bool{},
		same: map[*ssa.Function]map[types.Object][]ssa.Value{},
	}
	c.gather()
	c.collect(c.build())
	for _, f := range c.funcs {
		c.look(f)
	}
	c.passOn()
	c.leakAll()
	for _, f := range c.funcs {
		c.allocations(f)
		c.handed(f)
	}
	c.infer()
	c.conversions()
	c.instances()
	c.report()
	c.export()
	return nil, nil
}

// build makes SSA, with notes of which values are of the same variable, which passes/buildssa does not keep.
func (c *checker) build() *ssa.Package {
	prog := ssa.NewProgram(c.pass.Fset, ssa.GlobalDebug)
	prog.SetNoReturn(c.pass.ResultOf[ctrlflow.Analyzer].(*ctrlflow.CFGs).NoReturn)
	for _, p := range c.pass.Pkg.Imports() {
		prog.CreatePackage(p, nil, nil, true)
	}
	pkg := prog.CreatePackage(c.pass.Pkg, c.pass.Files, c.pass.TypesInfo, false)
	pkg.Build()
	return pkg
}

// collect makes the list of functions.
func (c *checker) collect(pkg *ssa.Package) {
	add := func(fn *ssa.Function) {
		f := &function{fn: fn, calls: map[int]bool{}, leaks: make([]leak, len(fn.Params))}
		if obj, ok := fn.Object().(*types.Func); ok {
			f.obj = obj
			f.mark = c.dir.marks[obj]
			c.byObj[obj] = f
		}
		c.funcs = append(c.funcs, f)
		c.bySSA[fn] = f
	}
	var all func(fn *ssa.Function) // with literals, and bodies of loops over functions
	all = func(fn *ssa.Function) {
		add(fn)
		for _, a := range fn.AnonFuncs {
			all(a)
		}
	}
	for _, f := range c.pass.Files {
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok {
				if fn := pkg.Prog.FuncValue(c.pass.TypesInfo.Defs[d.Name].(*types.Func)); fn != nil {
					all(fn)
				}
			}
		}
	}
	if fn := pkg.Func("init"); fn != nil { // variables' initial values
		all(fn)
	}
	slices.SortStableFunc(c.funcs, func(a, b *function) int { return int(a.fn.Pos() - b.fn.Pos()) })
}

// lookup is the function of this package that fn is, an instance of, or a wrapper around.
func (c *checker) lookup(fn *ssa.Function) *function {
	if f := c.bySSA[fn]; f != nil {
		return f
	}
	if o := fn.Origin(); o != nil && c.bySSA[o] != nil {
		return c.bySSA[o]
	}
	if obj, ok := fn.Object().(*types.Func); ok {
		return c.byObj[obj.Origin()]
	}
	return nil
}

// isStandard says that the package is of the standard library.
func isStandard(pass *analysis.Pass) bool {
	if len(pass.Files) == 0 || build.Default.GOROOT == "" {
		return false
	}
	name := pass.Fset.PositionFor(pass.Files[0].FileStart, false).Filename
	return strings.HasPrefix(filepath.ToSlash(name), filepath.ToSlash(filepath.Join(build.Default.GOROOT, "src"))+"/")
}

func (c *checker) reportf(pos token.Pos, format string, args ...any) {
	if !listTrusts && !c.standard {
		c.pass.Reportf(pos, format, args...)
	}
}

// tell lists something that is taken on trust.
func (c *checker) tell(pos token.Pos, format string, args ...any) {
	if listTrusts && !c.standard {
		c.pass.Reportf(pos, format, args...)
	}
}

// body is the syntax of the function's body, nil if it has none.
func (f *function) body() *ast.BlockStmt {
	switch n := f.fn.Syntax().(type) {
	case *ast.FuncDecl:
		return n.Body
	case *ast.FuncLit:
		return n.Body
	case *ast.RangeStmt:
		return n.Body
	}
	return nil
}
