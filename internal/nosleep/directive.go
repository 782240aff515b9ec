package nosleep

import (
	"go/ast"
	"go/token"
	"go/types"
	"strings"
)

const prefix = "//gommu:"

// A mark is what a directive says of a declaration.
type mark uint8

const (
	unmarked mark = iota
	nosleep       // never sleeps: a function; a method of an interface; a field or a type of functions
	refusal       // makes the error of a call that the caller got wrong: may allocate, never waits
)

func (m mark) String() string { return [...]string{"unmarked", "nosleep", "refusal"}[m] }

// A trust is a line comment that says that what is found on its line is right.
type trust struct {
	pos    token.Pos
	reason string
	used   bool
}

// place is a line of a file.
type place struct {
	file string
	line int
}

// directives are those of one package.
type directives struct {
	marks    map[types.Object]mark
	maysleep map[types.Object]string // types, and why
	noescape map[types.Object]bool   // functions without a body that say so to the compiler
	trusts   map[place]*trust
	stmts    []ast.Stmt // the simple statements
	good     map[*ast.Comment]bool
}

// gather reads the directives of the package and reports those that say nothing.
func (c *checker) gather() {
	c.dir = directives{
		marks: map[types.Object]mark{}, maysleep: map[types.Object]string{}, noescape: map[types.Object]bool{},
		trusts: map[place]*trust{}, good: map[*ast.Comment]bool{},
	}
	for _, f := range c.pass.Files {
		ast.Inspect(f, c.declared)
		c.comments(f)
	}
}

// declared takes the directives of one declaration, if n is one.
func (c *checker) declared(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncDecl:
		obj := c.pass.TypesInfo.Defs[n.Name]
		for _, d := range list(n.Doc) {
			switch word, _ := c.directive(d); word {
			case "nosleep", "refusal":
				c.dir.good[d] = true
				c.mark(d, obj, map[string]mark{"nosleep": nosleep, "refusal": refusal}[word])
			}
			if d.Text == "//go:noescape" {
				c.dir.noescape[obj] = true
			}
		}
	case *ast.GenDecl:
		for _, s := range n.Specs {
			if s, ok := s.(*ast.TypeSpec); ok {
				if len(n.Specs) == 1 {
					c.declaredType(s, n.Doc)
				}
				c.declaredType(s, s.Doc, s.Comment)
			}
		}
	case *ast.InterfaceType:
		for _, f := range n.Methods.List {
			c.declaredField(f, "a method of an interface")
		}
	case *ast.StructType:
		for _, f := range n.Fields.List {
			c.declaredField(f, "a field of functions")
		}
	case *ast.ExprStmt, *ast.AssignStmt, *ast.ReturnStmt, *ast.SendStmt, *ast.IncDecStmt, *ast.DeclStmt, *ast.GoStmt, *ast.DeferStmt:
		c.dir.stmts = append(c.dir.stmts, n.(ast.Stmt))
	}
	return true
}

func (c *checker) declaredType(s *ast.TypeSpec, groups ...*ast.CommentGroup) {
	obj := c.pass.TypesInfo.Defs[s.Name]
	for _, g := range groups {
		for _, d := range list(g) {
			switch word, rest := c.directive(d); word {
			case "nosleep":
				if _, ok := obj.Type().Underlying().(*types.Signature); ok {
					c.dir.good[d] = true
					c.mark(d, obj, nosleep)
				}
			case "maysleep":
				c.dir.good[d] = true
				if rest == "" {
					c.reportf(d.Pos(), "//gommu:maysleep of type %s has no reason: say why a call through an interface that never sleeps may sleep here", s.Name.Name)
					continue
				}
				c.dir.maysleep[obj] = rest
				c.tell(d.Pos(), "maysleep: %s", rest)
			}
		}
	}
}

func (c *checker) declaredField(f *ast.Field, what string) {
	for _, g := range []*ast.CommentGroup{f.Doc, f.Comment} {
		for _, d := range list(g) {
			if word, _ := c.directive(d); word != "nosleep" {
				continue
			}
			for _, name := range f.Names {
				obj := c.pass.TypesInfo.Defs[name]
				if _, ok := obj.Type().Underlying().(*types.Signature); ok {
					c.dir.good[d] = true
					c.mark(d, obj, nosleep)
				}
			}
			if !c.dir.good[d] {
				c.dir.good[d] = true
				c.reportf(d.Pos(), "//gommu:nosleep has no effect here, this is not %s", what)
			}
		}
	}
}

func (c *checker) mark(d *ast.Comment, obj types.Object, m mark) {
	if old := c.dir.marks[obj]; old != unmarked && old != m {
		c.reportf(d.Pos(), "%s is marked nosleep and refusal: it can be one of them", obj.Name())
	}
	c.dir.marks[obj] = m
}

// directive splits a comment into the directive's word, which is empty if it is none, and the rest.
func (c *checker) directive(d *ast.Comment) (word, rest string) {
	text, ok := strings.CutPrefix(d.Text, prefix)
	if !ok {
		return "", ""
	}
	text, _, _ = strings.Cut(text, " // ") // a comment on the comment
	word, rest, _ = strings.Cut(text, " ")
	return strings.TrimSpace(word), strings.TrimSpace(rest)
}

// comments takes the trusts of a file and reports the directives that are out of place. Each is the whole
// of a comment line, so prose may speak of them.
func (c *checker) comments(f *ast.File) {
	for _, g := range f.Comments {
		for _, d := range g.List {
			switch word, rest := c.directive(d); {
			case word == "trust":
				c.trust(f, d, rest)
			case word == "nosleep", word == "refusal", word == "maysleep":
				if !c.dir.good[d] {
					c.reportf(d.Pos(), "//gommu:%s has no effect here: put it into the comment of a declaration that can have it", word)
				}
			case word != "":
				c.reportf(d.Pos(), "unknown directive //gommu:%s: there are nosleep, refusal, maysleep and trust", word)
			case spaced(d.Text):
				c.reportf(d.Pos(), "this is no directive because of the blanks after //: put none there")
			}
		}
	}
}

// spaced says that the comment would be a directive without blanks at its beginning.
func spaced(text string) bool {
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "//"), " // ")
	text = strings.TrimSpace(text)
	return text == "gommu:nosleep" || text == "gommu:refusal" || strings.HasPrefix(text, "gommu:trust ") || strings.HasPrefix(text, "gommu:maysleep ")
}

// trust takes one in: it is for its line or, if it has that to itself, for the next.
func (c *checker) trust(f *ast.File, d *ast.Comment, reason string) {
	if reason == "" {
		c.reportf(d.Pos(), "//gommu:trust has no reason: say why what stands here does not sleep")
		return
	}
	at := c.place(d.Pos())
	alone := true
	ast.Inspect(f, func(n ast.Node) bool {
		if n == nil || !alone {
			return false
		}
		switch n.(type) {
		case *ast.Comment, *ast.CommentGroup:
			return false
		}
		if n.Pos() < d.Pos() && (c.place(n.Pos()).line == at.line || c.place(n.End()).line == at.line && n.End() <= d.Pos()) {
			alone = false
		}
		return n.Pos() <= d.Pos()
	})
	if alone {
		at.line++
	}
	c.dir.trusts[at] = &trust{pos: d.Pos(), reason: reason}
	c.tell(d.Pos(), "trust: %s", reason)
}

// trusted says that what is at pos is trusted: on its line, or on the first or the last one of the simple
// statement around it.
func (c *checker) trusted(pos token.Pos) bool {
	at := c.place(pos)
	if t := c.dir.trusts[at]; t != nil {
		t.used = true
		return true
	}
	if len(c.dir.trusts) == 0 {
		return false
	}
	var inner ast.Stmt
	for _, s := range c.dir.stmts {
		if s.Pos() <= pos && pos < s.End() && (inner == nil || s.Pos() >= inner.Pos()) {
			inner = s
		}
	}
	if inner == nil {
		return false
	}
	for _, p := range []token.Pos{inner.Pos(), inner.End()} {
		if t := c.dir.trusts[c.place(p)]; t != nil {
			t.used = true
			return true
		}
	}
	return false
}

func (c *checker) place(pos token.Pos) place {
	p := c.pass.Fset.PositionFor(pos, false)
	return place{p.Filename, p.Line}
}

// list is the comments of a group that may be nil.
func list(g *ast.CommentGroup) []*ast.Comment {
	if g == nil {
		return nil
	}
	return g.List
}
