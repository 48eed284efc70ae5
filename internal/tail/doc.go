// Package tail follows files that grow, and keeps how far each was delivered.
// docs/taildir.md says what a file is, what the position files hold, and what
// is lost or repeated when. The taildir source and the exec source's tail -F
// stand on it.
package tail
