// Package services holds the controllers that say which pods stand behind a
// Service: EndpointSlices, the older Endpoints, and the mirror of Endpoints that
// users write themselves.
package services
