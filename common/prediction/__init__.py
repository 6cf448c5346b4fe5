"""From a picture or a video to landmarks: detectors, tracking, formats of the results, drawing."""
