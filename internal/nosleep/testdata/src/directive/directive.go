// Package directive has directives that are wrong or out of place. Prose may speak of //gommu:nosleep. // want package:"nosleep"
package directive

//gommu:nosleep // want `//gommu:nosleep has no effect here`
var x int

// gommu:nosleep // want `blanks`
func blank() {}

//gommu:nosleeep // want `unknown directive //gommu:nosleeep`
func misspelt() {}

//gommu:nosleep
//gommu:refusal // want `both is marked nosleep and refusal`
func both() {}

//gommu:nosleep // want `//gommu:nosleep has no effect here`
type notFunc struct {
	//gommu:nosleep // want `//gommu:nosleep has no effect here, this is not a field of functions`
	n int
}

//gommu:maysleep // want `//gommu:maysleep of type silent has no reason`
type silent struct{}

//gommu:maysleep it is a function // want `//gommu:maysleep has no effect here`
func sleeper() {}

func inside() {
	//gommu:nosleep // want `//gommu:nosleep has no effect here`
	x++
}

type iface interface {
	//gommu:nosleep // want `//gommu:nosleep has no effect here, this is not a method of an interface`
	comparable
}
