package cacheline

// variants are the implementations that this CPU can run.
func variants() map[string]func([]uint64) {
	v := map[string]func([]uint64){"clflush": flush}
	if hasOpt {
		v["clflushopt"] = flushOpt
	}
	return v
}
