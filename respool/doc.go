// Package respool keeps resources ready for code that must not wait for them.
package respool
