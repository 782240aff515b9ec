// Nosleepvet checks functions that are marked //gommu:nosleep, in this module or in another one. See package
// gommu/internal/nosleep for what it refuses.
//
//	nosleepvet ./...                               by itself
//	go vet -vettool=$(which nosleepvet) ./...      with go vet, which keeps results of what has not changed
//	nosleepvet -trusts ./...                       list what is taken on trust
package main

import (
	"golang.org/x/tools/go/analysis/singlechecker"

	"gommu/internal/nosleep"
)

func main() { singlechecker.Main(nosleep.Analyzer) }
