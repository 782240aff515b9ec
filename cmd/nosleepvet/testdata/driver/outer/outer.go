// Package outer does not import package ring, whose method it uses.
package outer

import "example.com/driver/card"

// Bell is that of a new card.
func Bell() card.Bell { return card.New() }
