// Package volumes holds the controllers of persistent storage: one binds claims
// to volumes, others keep both from vanishing while they are used, make claims
// for ephemeral volumes, and provide and take back the volumes of the class that
// every cluster starts with.
package volumes
