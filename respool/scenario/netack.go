package scenario

func netack() Scenario { return Scenario{Name: "netack"} }
