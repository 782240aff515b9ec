package scenario

func abc() Scenario { return Scenario{Name: "abc"} }
