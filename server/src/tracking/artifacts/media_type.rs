//! Media types by the ending of a name, for what data scientists log. Pure.

/// The media type of a file; empty when the ending says nothing.
pub(super) fn guess(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some((stem, ending)) = name.rsplit_once('.') else {
        return "";
    };
    if stem.is_empty() {
        return "";
    }
    match ending.to_ascii_lowercase().as_str() {
        "txt" | "log" | "out" | "err" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "tsv" => "text/tab-separated-values",
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "js" | "mjs" => "text/javascript",
        "py" => "text/x-python",
        "r" => "text/x-r",
        "rs" => "text/x-rust",
        "sh" => "text/x-shellscript",
        "sql" => "application/sql",
        "json" => "application/json",
        "jsonl" | "ndjson" => "application/x-ndjson",
        "yaml" | "yml" => "application/yaml",
        "toml" => "application/toml",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "ipynb" => "application/x-ipynb+json",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "webp" => "image/webp",
        "bmp" => "image/bmp",
        "tif" | "tiff" => "image/tiff",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        "zip" => "application/zip",
        "tar" => "application/x-tar",
        "gz" | "tgz" => "application/gzip",
        "bz2" => "application/x-bzip2",
        "xz" => "application/x-xz",
        "zst" => "application/zstd",
        "parquet" => "application/vnd.apache.parquet",
        "arrow" | "feather" => "application/vnd.apache.arrow.file",
        "arrows" => "application/vnd.apache.arrow.stream",
        "h5" | "hdf5" | "keras" => "application/x-hdf5",
        "onnx" | "safetensors" | "pt" | "pth" | "ckpt" | "bin" | "npy" | "npz" | "pkl"
        | "pickle" | "joblib" => "application/octet-stream",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings() {
        assert_eq!(guess("plots/residuals.PNG"), "image/png");
        assert_eq!(guess("a.b/model"), "");
        assert_eq!(guess(".txt"), "");
        assert_eq!(guess("x.unheard"), "");
    }
}
