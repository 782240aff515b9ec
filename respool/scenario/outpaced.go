package scenario

func outpaced() Scenario { return Scenario{Name: "outpaced"} }
