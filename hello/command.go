package hello

// Get is the client `hello get URL...`: it prints what each URL answers and
// returns the exit code.
func Get(args []string) int { return 2 }
