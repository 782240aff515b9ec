// Package pagetable writes the page tables that a VT-d unit walks.
package pagetable
