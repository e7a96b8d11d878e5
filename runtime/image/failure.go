package image

import "errors"

// The kinds of failure a caller can tell apart with errors.Is. The text of an
// error that wraps one of them says which image, which host and why.
var (
	// ErrInvalidName: the reference cannot be parsed. Retrying is useless.
	ErrInvalidName = errors.New("invalid image name")
	// ErrNotFound: the store, or the registry, has no such image.
	ErrNotFound = errors.New("image not found")
	// ErrUnauthorized: the registry refused every credential that was offered.
	ErrUnauthorized = errors.New("not authorised by the registry")
	// ErrUnreachable: no registry endpoint answered as a registry does.
	ErrUnreachable = errors.New("registry unreachable")
	// ErrNoPlatform: the image exists, but not for this machine's platform.
	ErrNoPlatform = errors.New("no matching platform in the image")
	// ErrCorrupt: content does not match its digest, or is not what it claims.
	ErrCorrupt = errors.New("image content is corrupt")
	// ErrTooLarge: content exceeds a bound of the store.
	ErrTooLarge = errors.New("image is too large")
	// ErrNoSpace: the disk is full, or would be.
	ErrNoSpace = errors.New("no space left for images")
	// ErrInUse: the image is used by a container.
	ErrInUse = errors.New("image is in use")
	// ErrBuiltin: the image is made of this binary and cannot be changed.
	ErrBuiltin = errors.New("image is built in")
)
