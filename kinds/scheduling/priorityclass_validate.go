package scheduling

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

const (
	systemPrefix = "system-"
	// highestUser is the highest priority users may define; above it is the
	// system's.
	highestUser = int32(1_000_000_000)
)

// systemClasses are the only classes whose names may begin with system-.
var systemClasses = map[string]int32{
	"system-node-critical":    2*highestUser + 1000,
	"system-cluster-critical": 2 * highestUser,
}

func validatePriorityClass(c *schedulingv1.PriorityClass) (errs field.ErrorList) {
	if strings.HasPrefix(c.Name, systemPrefix) {
		value, known := systemClasses[c.Name]
		p := field.NewPath("metadata", "name")
		switch {
		case !known:
			errs = append(errs, field.Forbidden(p, fmt.Sprintf("priority class names with '%s' prefix are reserved for system use only. error: %s is not a known system priority class", systemPrefix, c.Name)))
		case value != c.Value:
			errs = append(errs, field.Forbidden(p, fmt.Sprintf("priority class names with '%s' prefix are reserved for system use only. error: value of %s PriorityClass must be %d", systemPrefix, c.Name, value)))
		case c.GlobalDefault:
			errs = append(errs, field.Forbidden(p, fmt.Sprintf("priority class names with '%s' prefix are reserved for system use only. error: globalDefault of %s PriorityClass must be false", systemPrefix, c.Name)))
		}
	} else if c.Value > highestUser {
		errs = append(errs, field.Forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %d", highestUser)))
	}
	if c.PreemptionPolicy != nil {
		errs = append(errs, check.RequiredListed(field.NewPath("preemptionPolicy"), *c.PreemptionPolicy, corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	return errs
}

func validatePriorityClassUpdate(c, old *schedulingv1.PriorityClass) (errs field.ErrorList) {
	if c.Value != old.Value {
		errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
	}
	return append(errs, check.Immutable(field.NewPath("preemptionPolicy"), c.PreemptionPolicy, old.PreemptionPolicy)...)
}
