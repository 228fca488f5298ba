//! The signature doctor: a webhook is pasted, and what is wrong with its signature is said.

use actix_web::HttpResponse;
use actix_web::web::{Data, Form};
use askama::Template;
use serde::Deserialize;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page, page_again};
use super::super::visit::Visit;
use crate::admin::doctor::{Judgement, PastedWebhook};

#[derive(Template)]
#[template(path = "doctor.html")]
struct Doctor {
    frame: Frame,
    id: Uuid,
    headers: String,
    body: String,
    error: Option<String>,
    judgement: Option<Judgement>,
    /// The signature is right, and only its time is not: as of any webhook that is pasted later.
    is_only_late: bool,
}

/// A webhook, as it is pasted.
#[derive(Deserialize)]
pub struct Pasted {
    /// A header a line.
    headers: String,
    body: String,
}

/// `GET /sources/{source}/doctor`
pub async fn show(visit: Visit) -> Result<HttpResponse, Failure> {
    let (headers, body) = (String::new(), String::new());
    page(&doctor(&visit, Pasted { headers, body }, None, None)?)
}

/// `POST /sources/{source}/doctor`: changes nothing.
pub async fn judge(console: Data<Console>, visit: Visit, form: Form<Pasted>) -> Result<HttpResponse, Failure> {
    let pasted = form.into_inner();
    let Some(headers) = parse_headers(&pasted.headers) else {
        let error = "Paste a header a line, as in `webhook-id: msg_1`.".to_owned();
        return page_again(&doctor(&visit, pasted, Some(error), None)?);
    };
    // A form's line ends are CR LF, whatever was pasted; senders write LF.
    let body = pasted.body.replace("\r\n", "\n").into_bytes();
    let webhook = PastedWebhook { headers, body, received_at: visit.now };
    let judgement = console.admin.judge_signature(visit.source()?.id, &webhook).await?;
    page(&doctor(&visit, pasted, None, Some(judgement))?)
}

fn doctor(
    visit: &Visit,
    Pasted { headers, body }: Pasted,
    error: Option<String>,
    judgement: Option<Judgement>,
) -> Result<Doctor, Failure> {
    let id = visit.source()?.id;
    let faults = judgement.as_ref().map(|judgement| judgement.faults.as_slice());
    let is_only_late = matches!(faults, Some([fault]) if fault.code == "clock_off");
    Ok(Doctor { frame: Frame::new(visit, "Problems"), id, headers, body, error, judgement, is_only_late })
}

/// Headers as `curl -v` and most tools show them, a line each; what such tools write before them is no header.
fn parse_headers(text: &str) -> Option<Vec<(String, String)>> {
    let lines = text.lines().map(|line| line.trim_start_matches(['>', '<', ' ']).trim_end());
    let is_request_line = |line: &&str| line.starts_with("POST ") || line.starts_with("HTTP/");
    lines
        .filter(|line| !line.is_empty() && !is_request_line(line))
        .map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_owned(), value.trim().to_owned())).filter(|(name, _)| !name.contains(' '))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_tools_show_them() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let read =
            parse_headers("> POST /webhooks HTTP/1.1\r\n> webhook-id: msg_1\n\nX-Nudgespot-Signature:t=1,v1=00\n");
        assert_eq!(read, Some(vec![pair("webhook-id", "msg_1"), pair("X-Nudgespot-Signature", "t=1,v1=00")]));
        assert_eq!(parse_headers(""), Some(vec![]));
        for wrong in ["no header", "two words: x"] {
            assert_eq!(parse_headers(wrong), None, "{wrong}");
        }
    }
}
