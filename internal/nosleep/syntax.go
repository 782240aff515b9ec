package nosleep

import (
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/types/typeutil"
)

// syntax looks at what SSA does not tell: where allocation is allowed, and loops that wait.
func (c *checker) syntax(f *function) {
	body := f.body()
	if body == nil {
		return
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.CallExpr:
			if id, ok := ast.Unparen(n.Fun).(*ast.Ident); ok {
				if b, ok := c.pass.TypesInfo.Uses[id].(*types.Builtin); ok && b.Name() == "panic" {
					f.exempt = append(f.exempt, span{n.Pos(), n.End()})
				}
			}
		case *ast.ReturnStmt:
			for _, e := range n.Results {
				if call, ok := ast.Unparen(e).(*ast.CallExpr); ok && c.refuses(call) {
					f.exempt = append(f.exempt, span{call.Pos(), call.End()})
				}
			}
		case *ast.ForStmt:
			if _, part := f.fn.Syntax().(*ast.RangeStmt); !part { // else the function around it tells
				c.loop(f, n)
			}
		}
		return true
	})
}

// refuses says that the call is one of a refusal function.
func (c *checker) refuses(call *ast.CallExpr) bool {
	fn, ok := typeutil.Callee(c.pass.TypesInfo, call).(*types.Func)
	if !ok {
		return false
	}
	fn = fn.Origin()
	if fn.Pkg() == c.pass.Pkg {
		return c.dir.marks[fn] == refusal
	}
	return c.facts(fn.Pkg()).Funcs[key(fn)].Mark == refusal
}

// loop refuses a loop that does nothing but wait for others, and one that never ends.
func (c *checker) loop(f *function, loop *ast.ForStmt) {
	const remedy = "do a bounded number of turns and return"
	switch {
	case len(loop.Body.List) == 0 && loop.Post == nil:
		c.fault(f, loop.Pos(), waits, "spins in a loop until others have done something", remedy)
	case loop.Cond == nil && !leaves(loop.Body):
		c.fault(f, loop.Pos(), waits, "has a loop that never ends", remedy)
	}
}

// leaves says that a statement in body may leave the loop that it is the body of.
func leaves(body *ast.BlockStmt) (found bool) {
	var visit func(n ast.Node, inner bool)
	visit = func(n ast.Node, inner bool) {
		ast.Inspect(n, func(m ast.Node) bool {
			switch m := m.(type) {
			case *ast.FuncLit:
				return false
			case *ast.ReturnStmt:
				found = true
			case *ast.BranchStmt:
				found = found || m.Label != nil || m.Tok == token.GOTO || m.Tok == token.BREAK && !inner
			case *ast.CallExpr:
				id, ok := ast.Unparen(m.Fun).(*ast.Ident)
				found = found || ok && id.Name == "panic"
			case *ast.ForStmt, *ast.RangeStmt, *ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.SelectStmt:
				if m != n {
					visit(m, true)
					return false
				}
			}
			return true
		})
	}
	visit(body, false)
	return found
}

// around is the body of the innermost loop of f that has pos, if there is one.
func (f *function) around(pos token.Pos) (inner span, ok bool) {
	body := f.body()
	if body == nil {
		return span{}, false
	}
	ast.Inspect(body, func(n ast.Node) bool {
		if n == nil || n.Pos() > pos || pos >= n.End() {
			return false
		}
		switch n.(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			inner, ok = span{n.Pos(), n.End()}, true
		}
		return true
	})
	return inner, ok
}

// jumps says that f has a goto, which may make a loop that looks like none.
func (f *function) jumps() (found bool) {
	if body := f.body(); body != nil {
		ast.Inspect(body, func(n ast.Node) bool {
			b, ok := n.(*ast.BranchStmt)
			found = found || ok && b.Tok == token.GOTO
			return !found
		})
	}
	return found
}
