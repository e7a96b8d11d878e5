// Package image is the image store of a node: it names, pulls, imports,
// verifies, unpacks, exports and collects container images, and gives the
// runtime the ordered directories that an overlay filesystem is made of.
//
// On disk, below one directory:
//
//	blobs/sha256/<hex>       verified content: manifests, configurations, compressed layers
//	images/<hex>.json        one record an image: its names and its layers
//	layers/<chain>/{fs,done} one unpacked layer; without done it does not exist
//	l/<short>                symbolic links to layers/<chain>/fs, for short mount options
//	tmp-*                    work in progress, removed when the store is opened
//
// Everything becomes visible by a rename, after it was verified and synced, so
// that a crash at any instant leaves either the whole or nothing. An idle
// store has no goroutine and keeps only the names of its images in memory.
package image
