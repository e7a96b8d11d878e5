// Package hello is the small program inside the built-in images
// sagong.local/hello:v1 and :v2, made of the running binary itself so that a
// cluster can be tried without a registry.
package hello
