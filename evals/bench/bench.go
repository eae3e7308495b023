// Package bench judges routers on full-information tables, where every arm was scored on every prompt: cost–quality
// curves and their hulls, AIQ and its relatives, operating points chosen on other folds, the baselines that must stand
// beside every result, calibration, and bootstrap intervals over prompts.
//
// It does not train and does not print: package trainer makes the predictions, package evals writes the report. It does
// not judge logs either, where one arm of each prompt was seen; that is package evals/ope.
package bench
