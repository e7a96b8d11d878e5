package batch

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
	"sagong/kinds/podspec"
)

// The bounds of indexed jobs: beyond them their status would grow too large.
const (
	maxIndexedParallelism = 100_000
	maxManagedBy          = 63
)

var specPath = field.NewPath("spec")

func validateJob(j *batchv1.Job) field.ErrorList {
	errs := validateSelector(j)
	errs = append(errs, validateJobSpec(&j.Spec, specPath)...)
	return append(errs, validateTemplate(&j.Spec, specPath)...)
}

// validateSelector demands the selector prepareJobCreate makes, and that it
// selects the job's own pods.
func validateSelector(j *batchv1.Job) (errs field.ErrorList) {
	if j.Spec.Selector == nil {
		return field.ErrorList{field.Required(specPath.Child("selector"), "")}
	}
	errs = metav1validation.ValidateLabelSelector(j.Spec.Selector, metav1validation.LabelSelectorValidationOptions{}, specPath.Child("selector"))
	l := j.Spec.Template.Labels
	s, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	if err == nil && !s.Matches(labels.Set(l)) {
		errs = append(errs, field.Invalid(specPath.Child("template", "metadata", "labels"), l, "`selector` does not match template `labels`"))
	}
	if j.Spec.ManualSelector != nil && *j.Spec.ManualSelector || err != nil {
		return errs
	}
	if j.UID == "" {
		return append(errs, field.Required(field.NewPath("metadata", "uid"), ""))
	}
	p := specPath.Child("template", "metadata", "labels")
	want := func(key, value string) {
		if have, ok := l[key]; !ok {
			errs = append(errs, field.Required(p.Key(key), fmt.Sprintf("must be '%s'", value)))
		} else if have != value {
			errs = append(errs, field.Invalid(p.Key(key), l, fmt.Sprintf("must be '%s'", value)))
		}
	}
	want(batchv1.ControllerUidLabel, string(j.UID))
	want(batchv1.JobNameLabel, j.Name)
	if !s.Matches(labels.Set{batchv1.ControllerUidLabel: string(j.UID)}) && !s.Matches(labels.Set{legacyControllerUIDLabel: string(j.UID)}) {
		errs = append(errs, field.Invalid(specPath.Child("selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

func validateTemplate(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	errs := podspec.ValidateTemplate(&s.Template, path.Child("template"))
	p := path.Child("template", "spec", "restartPolicy")
	switch policy := s.Template.Spec.RestartPolicy; {
	case policy == corev1.RestartPolicyAlways || policy == "":
		errs = append(errs, field.Required(p, fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)))
	case policy != corev1.RestartPolicyOnFailure && policy != corev1.RestartPolicyNever:
		errs = append(errs, field.NotSupported(p, policy, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	case policy != corev1.RestartPolicyNever && s.PodFailurePolicy != nil:
		errs = append(errs, field.Invalid(p, policy, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever)))
	}
	return errs
}

func validateJobSpec(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	if s.Scheduling != nil { // WorkloadWithJob, which is off
		errs = append(errs, field.Forbidden(path.Child("scheduling"), ""))
	}
	for _, f := range []struct {
		name string
		n    *int32
	}{
		{"parallelism", s.Parallelism}, {"completions", s.Completions}, {"backoffLimit", s.BackoffLimit},
		{"ttlSecondsAfterFinished", s.TTLSecondsAfterFinished}, {"backoffLimitPerIndex", s.BackoffLimitPerIndex}, {"maxFailedIndexes", s.MaxFailedIndexes},
	} {
		errs = append(errs, check.NonnegativePtr(path.Child(f.name), f.n)...)
	}
	errs = append(errs, check.NonnegativePtr(path.Child("activeDeadlineSeconds"), s.ActiveDeadlineSeconds)...)
	indexed := s.CompletionMode != nil && *s.CompletionMode == batchv1.IndexedCompletion
	if s.CompletionMode != nil {
		errs = append(errs, check.OneOf(path.Child("completionMode"), *s.CompletionMode, batchv1.NonIndexedCompletion, batchv1.IndexedCompletion)...)
	}
	if indexed {
		if s.Completions == nil {
			errs = append(errs, field.Required(path.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion)))
		}
		if s.Parallelism != nil && *s.Parallelism > maxIndexedParallelism {
			errs = append(errs, field.Invalid(path.Child("parallelism"), *s.Parallelism,
				fmt.Sprintf("must be less than or equal to %d when completion mode is %s", maxIndexedParallelism, batchv1.IndexedCompletion)))
		}
		if s.Completions != nil && s.MaxFailedIndexes != nil && *s.MaxFailedIndexes > *s.Completions {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *s.MaxFailedIndexes, "must be less than or equal to completions"))
		}
	} else {
		if s.BackoffLimitPerIndex != nil {
			errs = append(errs, field.Invalid(path.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, "requires indexed completion mode"))
		}
		if s.MaxFailedIndexes != nil {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *s.MaxFailedIndexes, "requires indexed completion mode"))
		}
	}
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if s.ManagedBy != nil {
		p := path.Child("managedBy")
		errs = append(errs, utilvalidation.IsDomainPrefixedPath(p, *s.ManagedBy)...)
		if len(*s.ManagedBy) > maxManagedBy {
			errs = append(errs, field.TooLong(p, *s.ManagedBy, maxManagedBy))
		}
	}
	if r := s.PodReplacementPolicy; r != nil {
		p := path.Child("podReplacementPolicy")
		if s.PodFailurePolicy != nil {
			errs = append(errs, check.OneOf(p, *r, batchv1.Failed)...)
		} else {
			errs = append(errs, check.OneOf(p, *r, batchv1.TerminatingOrFailed, batchv1.Failed)...)
		}
	}
	if s.PodFailurePolicy != nil {
		errs = append(errs, validateFailurePolicy(s, path.Child("podFailurePolicy", "rules"))...)
	}
	if s.SuccessPolicy != nil {
		if !indexed {
			errs = append(errs, field.Invalid(path.Child("successPolicy"), *s.SuccessPolicy, "requires indexed completion mode"))
		} else {
			errs = append(errs, validateSuccessPolicy(s, path.Child("successPolicy", "rules"))...)
		}
	}
	return errs
}

func validateFailurePolicy(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	const maxRules, maxValues, maxPatterns = 20, 255, 20
	rules := s.PodFailurePolicy.Rules
	if len(rules) > maxRules {
		errs = append(errs, field.TooMany(path, len(rules), maxRules))
	}
	names := map[string]bool{}
	for _, list := range [][]corev1.Container{s.Template.Spec.InitContainers, s.Template.Spec.Containers} {
		for i := range list {
			names[list[i].Name] = true
		}
	}
	for i, r := range rules {
		p := path.Index(i)
		errs = append(errs, check.RequiredOneOf(p.Child("action"), r.Action,
			batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionFailIndex, batchv1.PodFailurePolicyActionIgnore, batchv1.PodFailurePolicyActionCount)...)
		if r.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil {
			errs = append(errs, field.Invalid(p.Child("action"), r.Action, "requires the backoffLimitPerIndex to be set"))
		}
		if e := r.OnExitCodes; e != nil {
			p := p.Child("onExitCodes")
			errs = append(errs, check.RequiredOneOf(p.Child("operator"), e.Operator, batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn)...)
			if e.ContainerName != nil && !names[*e.ContainerName] {
				errs = append(errs, field.Invalid(p.Child("containerName"), *e.ContainerName, "must be one of the container or initContainer names in the pod template"))
			}
			p = p.Child("values")
			if len(e.Values) == 0 {
				errs = append(errs, field.Invalid(p, e.Values, "at least one value is required"))
			} else if len(e.Values) > maxValues {
				errs = append(errs, field.TooMany(p, len(e.Values), maxValues))
			}
			for j, v := range e.Values {
				if e.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && v == 0 {
					errs = append(errs, field.Invalid(p.Index(j), v, "must not be 0 for the In operator"))
				}
				if slices.Contains(e.Values[:j], v) {
					errs = append(errs, field.Duplicate(p.Index(j), v))
				}
			}
			if !slices.IsSorted(e.Values) {
				errs = append(errs, field.Invalid(p, e.Values, "must be ordered"))
			}
		}
		if len(r.OnPodConditions) > maxPatterns {
			errs = append(errs, field.TooMany(p.Child("onPodConditions"), len(r.OnPodConditions), maxPatterns))
		}
		for j, c := range r.OnPodConditions {
			p := p.Child("onPodConditions").Index(j)
			errs = append(errs, check.RequiredName(p.Child("type"), string(c.Type), utilvalidation.IsQualifiedName)...)
			errs = append(errs, check.RequiredOneOf(p.Child("status"), c.Status, corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown)...)
		}
		switch {
		case r.OnExitCodes != nil && len(r.OnPodConditions) > 0:
			errs = append(errs, field.Invalid(p, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
		case r.OnExitCodes == nil && len(r.OnPodConditions) == 0:
			errs = append(errs, field.Invalid(p, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
		}
	}
	return errs
}

func validateSuccessPolicy(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	rules := s.SuccessPolicy.Rules
	if len(rules) == 0 {
		errs = append(errs, field.Required(path, "at least one rules must be specified when the successPolicy is specified"))
	}
	if len(rules) > 20 {
		errs = append(errs, field.TooMany(path, len(rules), 20))
	}
	for i, r := range rules {
		p := path.Index(i)
		if r.SucceededCount == nil && r.SucceededIndexes == nil {
			errs = append(errs, field.Required(p, "at least one of succeededCount or succeededIndexes must be specified"))
		}
		var total int32
		if r.SucceededIndexes != nil {
			var completions int32
			if s.Completions != nil {
				completions = *s.Completions
			}
			n, err := countIndexes(*r.SucceededIndexes, completions)
			if err != nil {
				errs = append(errs, field.Invalid(p.Child("succeededIndexes"), *r.SucceededIndexes, "error parsing succeededIndexes: "+err.Error()))
			}
			total = n
		}
		if n := r.SucceededCount; n != nil {
			p := p.Child("succeededCount")
			errs = append(errs, check.Nonnegative(p, *n)...)
			if s.Completions != nil && *n > *s.Completions {
				errs = append(errs, field.Invalid(p, *n, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", *s.Completions)))
			}
			if r.SucceededIndexes != nil && *n > total {
				errs = append(errs, field.Invalid(p, *n, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", total)))
			}
		}
	}
	return errs
}

func validateJobUpdate(j, old *batchv1.Job) field.ErrorList {
	errs := validateJob(j)
	n, o := &j.Spec, &old.Spec
	p := specPath.Child("completions")
	// An indexed job may grow or shrink as long as all indexes run at once.
	indexed := n.CompletionMode != nil && *n.CompletionMode == batchv1.IndexedCompletion
	if !equality.Semantic.DeepEqual(n.Completions, o.Completions) {
		switch {
		case !indexed:
			errs = append(errs, check.Immutable(p, n.Completions, o.Completions)...)
		case n.Parallelism == nil || n.Completions == nil || *n.Parallelism != *n.Completions || o.Parallelism == nil || o.Completions == nil || *o.Parallelism != *o.Completions:
			errs = append(errs, field.Invalid(p, n.Completions, fmt.Sprintf("can only be modified in tandem with %s", specPath.Child("parallelism"))))
		}
	}
	errs = append(errs, check.Immutable(specPath.Child("selector"), n.Selector, o.Selector)...)
	errs = append(errs, validateJobTemplateUpdate(j, old)...)
	errs = append(errs, check.Immutable(specPath.Child("completionMode"), n.CompletionMode, o.CompletionMode)...)
	errs = append(errs, check.Immutable(specPath.Child("podFailurePolicy"), n.PodFailurePolicy, o.PodFailurePolicy)...)
	errs = append(errs, check.Immutable(specPath.Child("backoffLimitPerIndex"), n.BackoffLimitPerIndex, o.BackoffLimitPerIndex)...)
	errs = append(errs, check.Immutable(specPath.Child("managedBy"), n.ManagedBy, o.ManagedBy)...)
	return append(errs, check.Immutable(specPath.Child("successPolicy"), n.SuccessPolicy, o.SuccessPolicy)...)
}

// validateJobTemplateUpdate lets the template's directives for scheduling
// change while a suspended job has not started, nothing else.
func validateJobTemplateUpdate(j, old *batchv1.Job) field.ErrorList {
	was := old.Spec.Template.DeepCopy()
	if old.Spec.Suspend != nil && *old.Spec.Suspend && old.Status.StartTime == nil {
		is := &j.Spec.Template
		was.Labels, was.Annotations = is.Labels, is.Annotations
		was.Spec.NodeSelector, was.Spec.Tolerations = is.Spec.NodeSelector, is.Spec.Tolerations
		was.Spec.SchedulingGates = is.Spec.SchedulingGates
		switch {
		case is.Spec.Affinity != nil && was.Spec.Affinity == nil:
			was.Spec.Affinity = &corev1.Affinity{NodeAffinity: is.Spec.Affinity.NodeAffinity}
		case is.Spec.Affinity != nil:
			was.Spec.Affinity.NodeAffinity = is.Spec.Affinity.NodeAffinity
		case was.Spec.Affinity != nil:
			was.Spec.Affinity.NodeAffinity = nil
			if *was.Spec.Affinity == (corev1.Affinity{}) {
				was.Spec.Affinity = nil
			}
		}
	}
	return check.Immutable(specPath.Child("template"), j.Spec.Template, *was)
}

func validateJobStatus(j, old *batchv1.Job) (errs field.ErrorList) {
	p, s := field.NewPath("status"), &j.Status
	for _, f := range []struct {
		name string
		n    int32
	}{{"active", s.Active}, {"succeeded", s.Succeeded}, {"failed", s.Failed}} {
		errs = append(errs, check.Nonnegative(p.Child(f.name), f.n)...)
	}
	errs = append(errs, check.NonnegativePtr(p.Child("ready"), s.Ready)...)
	errs = append(errs, check.NonnegativePtr(p.Child("terminating"), s.Terminating)...)
	complete, failed := jobIs(s, batchv1.JobComplete), jobIs(s, batchv1.JobFailed)
	switch {
	case complete && failed:
		errs = append(errs, field.Invalid(p.Child("conditions"), field.OmitValueType{}, "cannot set Complete=True and Failed=True conditions"))
	case (complete || failed) && s.Active > 0:
		errs = append(errs, field.Invalid(p.Child("active"), s.Active, "active>0 is invalid for finished job"))
	case complete && s.CompletionTime == nil:
		errs = append(errs, field.Required(p.Child("completionTime"), "completionTime is required for Complete jobs"))
	case !complete && s.CompletionTime != nil:
		errs = append(errs, field.Invalid(p.Child("completionTime"), s.CompletionTime, "cannot set completionTime when there is no Complete=True condition"))
	}
	if (complete || failed) && s.StartTime == nil {
		errs = append(errs, field.Required(p.Child("startTime"), "startTime is required for finished job"))
	}
	for _, t := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed} {
		if jobIs(&old.Status, t) && !jobIs(s, t) {
			errs = append(errs, field.Invalid(p.Child("conditions"), field.OmitValueType{}, fmt.Sprintf("cannot disable the terminal %s=True condition", t)))
		}
	}
	return errs
}

func jobIs(s *batchv1.JobStatus, t batchv1.JobConditionType) bool {
	for _, c := range s.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func jobWarnings(j, old *batchv1.Job) []string {
	var out []string
	if old == nil {
		out = podspec.NameWarnings(j.Name, "Pod names and hostnames")
	}
	out = append(out, specWarnings(&j.Spec, specPath)...)
	if old != nil && equality.Semantic.DeepEqual(j.Spec.Template, old.Spec.Template) {
		return out
	}
	return append(out, podspec.TemplateWarnings(&j.Spec.Template, specPath.Child("template"))...)
}

func specWarnings(s *batchv1.JobSpec, path *field.Path) []string {
	if s.Completions != nil && *s.Completions > maxIndexedParallelism && s.Parallelism != nil && *s.Parallelism > 10_000 {
		return []string{fmt.Sprintf("%s: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail", path)}
	}
	return nil
}
